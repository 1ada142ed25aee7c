//! The messages of the Binding method. Pure.

use std::net::SocketAddr;

use stun_types::attribute::{AttributeStaticType, Fingerprint, XorMappedAddress};
use stun_types::message::{
    BINDING, Message, MessageClass, MessageType, MessageWrite, MessageWriteExt, MessageWriteVec, TransactionId,
};

/// The largest message that is looked at, in bytes.
pub(crate) const LARGEST: usize = 548;

/// A Binding request with FINGERPRINT, and its transaction.
pub fn request() -> (Vec<u8>, u128) {
    let transaction = TransactionId::generate();
    let kind = MessageType::from_class_method(MessageClass::Request, BINDING);
    let mut message = Message::builder(kind, transaction, MessageWriteVec::new());
    // Cannot fail: it is the first attribute.
    let _ = message.add_fingerprint();
    (message.finish(), transaction.into())
}

/// What to answer to a datagram from `source`: XOR-MAPPED-ADDRESS and FINGERPRINT, or 420 for attributes that had to be
/// understood and are not. `None` for everything that is no Binding request, a wrong FINGERPRINT included: no answer is
/// longer than some bytes more than its question, and nonsense has none.
pub fn answer(datagram: &[u8], source: SocketAddr) -> Option<Vec<u8>> {
    if datagram.len() > LARGEST {
        return None;
    }
    let asked = Message::from_bytes(datagram).ok()?;
    if !asked.has_class(MessageClass::Request) || !asked.has_method(BINDING) {
        return None;
    }
    let refusal = Message::check_attribute_types(&asked, &[Fingerprint::TYPE], &[], MessageWriteVec::new());
    if let Some(mut refusal) = refusal {
        refusal.add_fingerprint().ok()?;
        return Some(refusal.finish());
    }
    let mut message = Message::builder_success(&asked, MessageWriteVec::new());
    message.add_attribute(&XorMappedAddress::new(source, asked.transaction_id())).ok()?;
    message.add_fingerprint().ok()?;
    Some(message.finish())
}

/// The address in a success response to the transaction; `None` for every other datagram, and for one without FINGERPRINT,
/// which [`answer`] always has.
pub fn mapped_address(datagram: &[u8], transaction: u128) -> Option<SocketAddr> {
    let message = Message::from_bytes(datagram).ok()?;
    let ours = message.transaction_id() == TransactionId::from(transaction);
    if !ours || !message.has_class(MessageClass::Success) || !message.has_method(BINDING) {
        return None;
    }
    message.attribute::<Fingerprint>().ok()?;
    Some(message.attribute::<XorMappedAddress>().ok()?.addr(message.transaction_id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 5769, section 2.1, without what a Binding responder need not know: the whole message, as printed there.
    const REQUEST: &[u8] = b"\x00\x01\x00\x58\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\
        \x80\x22\x00\x10STUN test client\x00\x24\x00\x04\x6e\x00\x01\xff\x80\x29\x00\x08\x93\x2f\xf9\xb1\x51\x26\x3b\x36\
        \x00\x06\x00\x09\x65\x76\x74\x6a\x3a\x68\x36\x76\x59\x20\x20\x20\x00\x08\x00\x14\x9a\xea\xa7\x0c\xbf\xd8\xcb\x56\
        \x78\x1e\xf2\xb5\xb2\xd3\xf2\x49\xc1\xb5\x71\xa2\x80\x28\x00\x04\xe5\x7a\x3b\xcf";
    /// Section 2.2: 192.0.2.1 port 32853.
    const RESPONSE_V4: &[u8] = b"\x01\x01\x00\x3c\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\
        \x80\x22\x00\x0b\x74\x65\x73\x74\x20\x76\x65\x63\x74\x6f\x72\x20\x00\x20\x00\x08\x00\x01\xa1\x47\xe1\x12\xa6\x43\
        \x00\x08\x00\x14\x2b\x91\xf5\x99\xfd\x9e\x90\xc3\x8c\x74\x89\xf9\x2a\xf9\xba\x53\xf0\x6b\xe7\xd7\
        \x80\x28\x00\x04\xc0\x7d\x4c\x96";
    /// Section 2.3: 2001:db8:1234:5678:11:2233:4455:6677 port 32853.
    const RESPONSE_V6: &[u8] = b"\x01\x01\x00\x48\x21\x12\xa4\x42\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae\
        \x80\x22\x00\x0b\x74\x65\x73\x74\x20\x76\x65\x63\x74\x6f\x72\x20\x00\x20\x00\x14\x00\x02\xa1\x47\
        \x01\x13\xa9\xfa\xa5\xd3\xf1\x79\xbc\x25\xf4\xb5\xbe\xd2\xb9\xd9\x00\x08\x00\x14\
        \xa3\x82\x95\x4e\x4b\xe6\x7b\xf1\x17\x84\xc9\x7c\x82\x92\xc2\x75\xbf\xe3\xed\x41\x80\x28\x00\x04\xc8\xfb\x0b\x4c";
    const TRANSACTION: u128 = 0xb7e7_a701_bc34_d686_fa87_dfae;

    #[test]
    fn the_vectors_of_rfc_5769() {
        assert_eq!(mapped_address(RESPONSE_V4, TRANSACTION), Some("192.0.2.1:32853".parse().unwrap()));
        let v6 = "[2001:db8:1234:5678:11:2233:4455:6677]:32853".parse().unwrap();
        assert_eq!(mapped_address(RESPONSE_V6, TRANSACTION), Some(v6));
        // Of another transaction, with a flipped bit, cut short.
        assert_eq!(mapped_address(RESPONSE_V4, TRANSACTION ^ 1), None);
        for index in 0..RESPONSE_V4.len() {
            let mut flipped = RESPONSE_V4.to_vec();
            flipped[index] ^= 1;
            assert_eq!(mapped_address(&flipped, TRANSACTION), None, "bit flipped in byte {index}");
            assert_eq!(mapped_address(&RESPONSE_V4[..index], TRANSACTION), None);
        }
        // PRIORITY, USERNAME and MESSAGE-INTEGRITY must be understood, and a Binding responder does not: 420.
        let refusal = answer(REQUEST, "192.0.2.1:1".parse().unwrap()).unwrap();
        assert_eq!(&refusal[..2], b"\x01\x11");
        assert_eq!(mapped_address(&refusal, TRANSACTION), None);
    }

    #[test]
    fn an_answer_names_the_source() {
        for source in ["198.51.100.7:51820", "[2001:db8::7]:1"] {
            let source: SocketAddr = source.parse().unwrap();
            let (asked, transaction) = request();
            let answered = answer(&asked, source).unwrap();
            assert_eq!(mapped_address(&answered, transaction), Some(source));
            assert_eq!(mapped_address(&answered, transaction ^ 1), None);
            // No amplifier: an address is all that is added.
            assert!(answered.len() <= asked.len() + 24, "{} for {}", answered.len(), asked.len());
            assert_eq!(answer(&answered, source), None, "an answer is not answered");
        }
    }

    #[test]
    fn nonsense_is_not_answered() {
        let source = "192.0.2.1:1".parse().unwrap();
        let (asked, _) = request();
        for index in 0..asked.len() {
            // Of another type it would be no FINGERPRINT but an attribute that may be ignored.
            if (20..22).contains(&index) {
                continue;
            }
            let mut flipped = asked.clone();
            flipped[index] ^= 0x40;
            assert_eq!(answer(&flipped, source), None, "byte {index}");
            assert_eq!(answer(&asked[..index], source), None);
        }
        assert_eq!(answer(&[0; 2000], source), None);
        assert_eq!(answer(b"", source), None);
    }
}
