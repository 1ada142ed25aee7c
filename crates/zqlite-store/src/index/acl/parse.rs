//! What the columns of rules hold.

use rusqlite::types::Value;
use zqlite_acl::{Action, Label, PortRange, Rule, RuleId, Selector};
use zqlite_cidr::Family;

use crate::rows::MAX_SAFE_INTEGER;

/// A value, or which column is wrong and why.
pub(super) type Parsed<T> = std::result::Result<T, (usize, String)>;

/// The id of a rule is that of its row, as far as JavaScript has a number for it: questions are answered with such numbers.
pub(super) fn id_of(row: i64) -> Option<RuleId> {
    RuleId::try_from(row).ok().filter(|id| *id <= MAX_SAFE_INTEGER)
}

pub(super) fn rule_of(id: RuleId, values: &[Value]) -> Parsed<Rule> {
    let value = |at: usize| values.get(at).unwrap_or(&Value::Null);
    let selectors = |at: usize| match value(at) {
        Value::Text(text) => {
            items(text).map(|item| Selector::parse(item).map_err(|error| (at, error.to_string()))).collect()
        }
        _ => Err((at, "selectors are a text: *, prefixes, ranges and labels between commas".to_owned())),
    };
    let integer = |at: usize| match value(at) {
        Value::Integer(number) => Ok(*number),
        _ => Err((at, "an integer is needed".to_owned())),
    };
    let action = match value(5) {
        Value::Text(text) => text.parse::<Action>().map_err(|error| (5, error.to_string()))?,
        _ => return Err((5, "it is allow or deny".to_owned())),
    };
    let flag = |at: usize| match value(at) {
        Value::Integer(0) => Ok(false),
        Value::Integer(1) => Ok(true),
        _ => Err((at, "it is 0 or 1".to_owned())),
    };
    let rule = Rule {
        id,
        priority: i32::try_from(integer(4)?).map_err(|_| (4, "a priority has 32 bits".to_owned()))?,
        action,
        enabled: flag(6)?,
        sources: selectors(0)?,
        destinations: selectors(1)?,
        protocols: protocols_of(value(2)).map_err(|reason| (2, reason))?,
        ports: ports_of(value(3)).map_err(|reason| (3, reason))?,
        expires_at: if *value(7) == Value::Null { None } else { Some(integer(7)?) },
        same_owner: if *value(8) == Value::Null { false } else { flag(8)? },
        through: through_of(value(9)).map_err(|reason| (9, reason))?,
        family: family_of(value(10)).map_err(|reason| (10, reason))?,
    };
    for (at, list) in [&rule.sources, &rule.destinations].into_iter().enumerate() {
        if list.is_empty() {
            return Err((at, "at least one selector is needed; * selects everything".to_owned()));
        }
    }
    Ok(rule)
}

/// What stands between commas, without the blanks around it.
fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(|item| item.trim_matches([' ', '\t', '\n', '\r'])).filter(|item| !item.is_empty())
}

pub(super) fn protocol_of(text: &str) -> Option<u8> {
    match text.to_ascii_lowercase().as_str() {
        "icmp" => Some(1),
        "tcp" => Some(6),
        "udp" => Some(17),
        "icmpv6" => Some(58),
        // No sign, no leading zero.
        text => text.parse().ok().filter(|number: &u8| number.to_string() == text),
    }
}

/// NULL and `*` are all.
fn protocols_of(value: &Value) -> std::result::Result<Vec<u8>, String> {
    let wrong =
        || "protocols are numbers from 0 to 255, tcp, udp, icmp or icmpv6, between commas; NULL or * is all".to_owned();
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Integer(number) => Ok(vec![u8::try_from(*number).map_err(|_| wrong())?]),
        Value::Text(text) if text == "*" => Ok(Vec::new()),
        Value::Text(text) if items(text).next().is_some() => {
            items(text).map(|item| protocol_of(item).ok_or_else(wrong)).collect()
        }
        _ => Err(wrong()),
    }
}

/// NULL and `*` are all, and no port at all.
fn ports_of(value: &Value) -> std::result::Result<Vec<PortRange>, String> {
    let wrong = || {
        "ports are numbers from 0 to 65535 and ranges such as 8000-8999, between commas; NULL or * is all".to_owned()
    };
    let port = |text: &str| text.parse().ok().filter(|port: &u16| port.to_string() == text);
    let range = |item: &str| {
        let (low, high) = item.split_once('-').unwrap_or((item, item));
        let range = PortRange { low: port(low)?, high: port(high)? };
        (range.low <= range.high).then_some(range)
    };
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Integer(number) => {
            let port = u16::try_from(*number).map_err(|_| wrong())?;
            Ok(vec![PortRange { low: port, high: port }])
        }
        Value::Text(text) if text == "*" => Ok(Vec::new()),
        Value::Text(text) if items(text).next().is_some() => {
            items(text).map(|item| range(item).ok_or_else(wrong)).collect()
        }
        _ => Err(wrong()),
    }
}

/// NULL is any.
fn through_of(value: &Value) -> std::result::Result<Vec<Label>, String> {
    match value {
        Value::Null => Ok(Vec::new()),
        // An empty list would be any, and whoever wrote it may have meant none.
        Value::Text(text) if items(text).next().is_some() => {
            items(text).map(|item| Label::parse(item).map_err(|error| error.to_string())).collect()
        }
        _ => Err("it is labels between commas; NULL is any".to_owned()),
    }
}

/// NULL is both.
fn family_of(value: &Value) -> std::result::Result<Option<Family>, String> {
    match value {
        Value::Null => Ok(None),
        Value::Integer(4) => Ok(Some(Family::V4)),
        Value::Integer(6) => Ok(Some(Family::V6)),
        _ => Err("it is 4 or 6; NULL is both".to_owned()),
    }
}
