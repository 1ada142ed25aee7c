//! What the law of `laws` leaves open: messages are no larger than need be, a resume gets by with little, what takes away is
//! urgent, and a batch that contradicts itself changes nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may stop at what it did not expect")]

use std::sync::Arc;

use ghostwire_sync::{
    Batch, Digest, Filter, Frame, Handle, Next, Position, Put, RecipientChange, State, SyncError, ViewChange, ViewId,
};
use serde_json::{Value, json};

fn filter(rules: &Value) -> Arc<Filter> {
    Arc::new(Filter::new(rules.to_string().as_bytes()).unwrap())
}

fn message(frame: Option<Frame>) -> Value {
    serde_json::from_slice(&frame.expect("a message").payload()).unwrap()
}

fn ids(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|entry| entry["id"].as_str().or(entry.as_str()).unwrap()).collect()
}

fn put(handle: Handle, text: &str) -> Put {
    let id = format!("p{handle}");
    Put::new(handle, &id, json!({"id": id, "text": text}).to_string().as_bytes(), None).unwrap()
}

/// A record as a process that begins at revision 10 loads it.
fn loaded(handle: Handle) -> Put {
    let id = format!("p{handle}");
    Put::new(handle, &id, json!({"id": id, "text": "a"}).to_string().as_bytes(), Some(10)).unwrap()
}

fn edit(view: ViewId, add: &[Handle], remove: &[Handle]) -> ViewChange {
    ViewChange::Edit { view, add: add.iter().collect(), remove: remove.iter().collect(), filter: None }
}

fn set(handle: Handle, view: ViewId) -> RecipientChange {
    RecipientChange::set(handle, view, Some(br#"{"me":true}"#)).unwrap()
}

/// Peers 1 to 4 in view 1, which recipients 1 and 2 see; revision 10.
fn small() -> State {
    let mut state = State::new("e");
    let batch = Batch {
        revision: 10,
        puts: (1..=4).map(loaded).collect(),
        views: vec![edit(1, &[1, 2, 3, 4], &[])],
        recipients: vec![set(1, 1), set(2, 1)],
        ..Batch::default()
    };
    state.publish(batch).unwrap();
    state
}

fn next(state: &mut State, handle: Handle, session: u64) -> Option<Frame> {
    match state.next(handle, session) {
        Next::Update(update) => update.encode(),
        Next::Idle => None,
        other => panic!("{other:?}"),
    }
}

fn digest(ids: &[&str]) -> Digest {
    ids.iter().fold(Digest::default(), |all, id| all.toggled(Digest::of(id)))
}

#[test]
fn a_full_map_leaves_the_recipient_out() {
    let mut state = small();
    let attached = state.attach(2, None).unwrap();
    let full = message(attached.update.encode());
    assert_eq!(full["type"], "full");
    assert_eq!((&full["epoch"], &full["revision"], &full["self"]), (&json!("e"), &json!(10), &json!({"me": true})));
    assert_eq!(ids(&full["peers"]), ["p1", "p3", "p4"]);
    assert_eq!(ids(&message(state.attach(1, None).unwrap().update.encode())["peers"]), ["p2", "p3", "p4"]);
}

#[test]
fn a_delta_says_what_changed_and_no_more() {
    let mut state = small();
    let [one, two] = [1, 2].map(|handle| state.attach(handle, None).unwrap().session);
    assert!(next(&mut state, 1, one).is_none());
    state.publish(Batch { revision: 11, puts: vec![put(2, "b"), put(3, "b")], ..Batch::default() }).unwrap();
    assert_eq!(state.take_pending().iter().collect::<Vec<_>>(), [1, 2]);
    let delta = message(next(&mut state, 1, one));
    assert_eq!(ids(&delta["changed"]), ["p2", "p3"]);
    assert_eq!((&delta["removed"], delta.get("self"), delta.get("visible")), (&json!([]), None, None));
    assert_eq!(ids(&message(next(&mut state, 2, two))["changed"]), ["p3"]);
    // Its own record alone is no news to a recipient.
    state.publish(Batch { revision: 12, puts: vec![put(2, "c")], ..Batch::default() }).unwrap();
    assert!(next(&mut state, 2, two).is_none());
    // Seen several changes late, a peer that came and went is not mentioned.
    state
        .publish(Batch { revision: 13, puts: vec![put(5, "")], views: vec![edit(1, &[5], &[])], ..Batch::default() })
        .unwrap();
    state.publish(Batch { revision: 14, removes: vec![5, 4], puts: vec![put(3, "d")], ..Batch::default() }).unwrap();
    let delta = message(next(&mut state, 1, one));
    assert_eq!((ids(&delta["changed"]), ids(&delta["removed"])), (vec!["p2", "p3"], vec!["p4"]));
    assert_eq!(delta["changed"][1]["text"], "d");
    assert_eq!(delta["revision"], 14);
}

#[test]
fn another_view_is_a_delta_for_who_is_connected() {
    let mut state = small();
    let session = state.attach(1, None).unwrap().session;
    let batch =
        Batch { revision: 11, views: vec![edit(2, &[1, 3, 4], &[])], recipients: vec![set(1, 2)], ..Batch::default() };
    assert!(state.publish(batch).unwrap().urgent);
    let delta = message(next(&mut state, 1, session));
    assert_eq!((ids(&delta["changed"]), ids(&delta["removed"])), (vec![], vec!["p2"]));
    assert_eq!(delta["self"], json!({"me": true}));
}

#[test]
fn a_resume_with_the_right_digest_needs_no_list() {
    let mut state = small();
    state.publish(Batch { revision: 11, puts: vec![put(3, "b")], ..Batch::default() }).unwrap();
    state.publish(Batch { revision: 12, puts: vec![put(4, "b")], ..Batch::default() }).unwrap();
    let held = digest(&["p2", "p3", "p4"]);
    for (revision, changed) in [(10, vec!["p3", "p4"]), (11, vec!["p4"]), (12, vec![])] {
        let from = Position { epoch: "e".into(), revision, digest: Some(held), filter: None };
        let answer = message(state.attach(1, Some(&from)).unwrap().update.encode());
        assert_eq!((&answer["type"], answer.get("visible")), (&json!("delta"), None));
        assert_eq!(ids(&answer["changed"]), changed, "from {revision}");
        assert_eq!(answer["self"], json!({"me": true}));
    }
}

#[test]
fn a_resume_with_another_digest_lists_all_that_is_visible() {
    let mut state = small();
    state.publish(Batch { revision: 11, puts: vec![put(3, "b")], ..Batch::default() }).unwrap();
    // p5 is an old record by the time that the view gains it.
    state.publish(Batch { revision: 12, puts: vec![put(5, "a")], ..Batch::default() }).unwrap();
    state
        .publish(Batch { revision: 13, removes: vec![2], views: vec![edit(1, &[5], &[])], ..Batch::default() })
        .unwrap();
    for held in [Some(digest(&["p2", "p3", "p4"])), None] {
        let from = Position { epoch: "e".into(), revision: 12, digest: held, filter: None };
        let answer = message(state.attach(1, Some(&from)).unwrap().update.encode());
        assert_eq!(ids(&answer["changed"]), ["p5"]);
        assert_eq!(ids(&answer["visible"]), ["p3", "p4", "p5"]);
    }
}

#[test]
fn a_position_that_is_not_ours_gets_a_full_map() {
    let mut state = small();
    state.publish(Batch { revision: 11, views: vec![edit(1, &[], &[4])], ..Batch::default() }).unwrap();
    let wrong = Some(digest(&["p2"]));
    let right = Some(digest(&["p2", "p3"]));
    for (epoch, revision, digest) in
        [("other", 11, right), ("e", 12, right), ("e", 10, wrong), ("e", 3, wrong), ("", 0, None)]
    {
        let from = Position { epoch: epoch.into(), revision, digest, filter: None };
        assert!(state.attach(1, Some(&from)).unwrap().update.is_full(), "{from:?}");
    }
    let from = Position { epoch: "e".into(), revision: 3, digest: right, filter: None };
    assert!(!state.attach(1, Some(&from)).unwrap().update.is_full());
}

#[test]
fn behind_the_horizon_is_a_full_map() {
    let mut state = State::bounded("e", 4);
    let views = vec![edit(1, &[1, 2, 3, 4], &[])];
    let recipients = vec![set(1, 1)];
    let puts = (1..=4).map(loaded).collect();
    state.publish(Batch { revision: 10, puts, views, recipients, ..Batch::default() }).unwrap();
    for revision in 11..=20 {
        state.publish(Batch { revision, puts: vec![put(2, "b")], ..Batch::default() }).unwrap();
    }
    let mut full = |revision| {
        let from = Position { epoch: "e".into(), revision, digest: None, filter: None };
        state.attach(1, Some(&from)).unwrap().update.is_full()
    };
    assert_eq!([11, 15, 16, 20].map(&mut full), [true, true, false, false]);
}

#[test]
fn a_filter_is_told_once_and_whenever_it_is_another() {
    let rules = |number: u32| filter(&json!([number]));
    let with = |view, number| ViewChange::Edit {
        view,
        add: [1, 2, 3].into_iter().collect(),
        remove: Default::default(),
        filter: Some(rules(number)),
    };
    let told = |frame: Option<Frame>| message(Some(frame?)).get("packetFilter").map(|told| told["rules"].clone());
    let mut state = small();
    let first = state.attach(1, None).unwrap();
    assert_eq!(message(first.update.encode())["packetFilter"], Value::Null);
    let one = first.session;
    // The same batch shows a record and changes the filter: one message has both.
    let batch = Batch { revision: 11, puts: vec![put(3, "b")], views: vec![with(1, 7)], ..Batch::default() };
    assert!(state.publish(batch).unwrap().urgent, "it may let less in");
    assert_eq!(state.take_pending().iter().collect::<Vec<_>>(), [1]);
    let delta = message(next(&mut state, 1, one));
    assert_eq!((&delta["packetFilter"]["rules"], ids(&delta["changed"])), (&json!([7]), vec!["p3"]));
    assert_eq!(delta["packetFilter"]["digest"], rules(7).digest());
    assert_eq!(delta.get("self"), None);
    // The same again is nothing, and a change that was taken back before it was told is nothing either.
    for numbers in [vec![7], vec![8, 7]] {
        for number in numbers {
            state.publish(Batch { revision: 12, views: vec![with(1, number)], ..Batch::default() }).unwrap();
        }
        assert_eq!(told(next(&mut state, 1, one)), None);
    }
    // Another view with an equal filter, with another one, and with none.
    for (view, number, expected) in [(2, Some(7), None), (3, Some(9), Some(json!([9]))), (4, None, Some(Value::Null))] {
        let views = vec![number.map_or_else(|| edit(view, &[1, 2, 3], &[]), |number| with(view, number))];
        let recipients = vec![RecipientChange::set(1, view, None).unwrap()];
        state.publish(Batch { revision: 13, views, recipients, ..Batch::default() }).unwrap();
        assert_eq!(told(next(&mut state, 1, one)), expected, "view {view}");
    }
    assert_eq!(state.filters().0, 2, "equal filters are held once, and only while a view has them");
    // A resume: only who holds another one is told.
    let held = digest(&["p1", "p3", "p4"]);
    for (filter, expected) in [
        (Some(rules(7).digest().to_owned()), None),
        (Some(rules(9).digest().to_owned()), Some(json!([7]))),
        (None, Some(json!([7]))),
    ] {
        let from = Position { epoch: "e".into(), revision: 13, digest: Some(held), filter };
        let answer = message(state.attach(2, Some(&from)).unwrap().update.encode());
        assert_eq!(
            (&answer["type"], answer.get("packetFilter").map(|told| told["rules"].clone())),
            (&json!("delta"), expected)
        );
    }
}

#[test]
fn what_takes_away_is_urgent() {
    let mut state = small();
    state.attach(1, None).unwrap();
    let mut revision = 10;
    let mut urgent = |batch: Batch| {
        revision += 1;
        state.publish(Batch { revision, ..batch }).unwrap().urgent
    };
    assert!(!urgent(Batch { puts: vec![put(5, "a")], views: vec![edit(1, &[5], &[])], ..Batch::default() }));
    assert!(!urgent(Batch { recipients: vec![set(1, 1)], ..Batch::default() }));
    assert!(urgent(Batch { urgent: true, ..Batch::default() }));
    assert!(urgent(Batch { removes: vec![5], ..Batch::default() }));
    assert!(urgent(Batch { views: vec![edit(1, &[], &[4])], ..Batch::default() }));
    assert!(urgent(Batch { recipients: vec![RecipientChange::Revoke { handle: 1 }], ..Batch::default() }));
}

#[test]
fn a_batch_that_contradicts_changes_nothing() {
    let mut state = small();
    let before = (state.revision(), state.counts());
    let stranger = Put::new(1, "px", br#"{"id":"px"}"#, None).unwrap();
    let twin = Put::new(9, "p1", br#"{"id":"p1"}"#, None).unwrap();
    let new = || Put::new(8, "p8", br#"{"id":"p8"}"#, None).unwrap();
    let other = Put::new(8, "p9", br#"{"id":"p9"}"#, None).unwrap();
    type Matches = fn(&SyncError) -> bool;
    let cases: Vec<(Batch, Matches)> = vec![
        (Batch { revision: 9, ..Batch::default() }, |e| matches!(e, SyncError::RevisionBehind { .. })),
        (Batch { puts: vec![stranger], ..Batch::default() }, |e| matches!(e, SyncError::HandleTaken { handle: 1, .. })),
        (Batch { puts: vec![new(), other], ..Batch::default() }, |e| {
            matches!(e, SyncError::HandleTaken { handle: 8, .. })
        }),
        (Batch { puts: vec![twin], ..Batch::default() }, |e| {
            matches!(e, SyncError::IdTaken { held: 1, handle: 9, .. })
        }),
        (Batch { puts: vec![put(1, "")], removes: vec![1], ..Batch::default() }, |e| {
            matches!(e, SyncError::PutAndRemoved { handle: 1 })
        }),
        (Batch { views: vec![edit(1, &[8], &[])], ..Batch::default() }, |e| {
            matches!(e, SyncError::UnknownRecord { view: 1, handle: 8 })
        }),
        (Batch { removes: vec![3], views: vec![edit(1, &[3], &[])], ..Batch::default() }, |e| {
            matches!(e, SyncError::UnknownRecord { view: 1, handle: 3 })
        }),
        (Batch { views: vec![edit(2, &[], &[]), ViewChange::Drop { view: 2 }], ..Batch::default() }, |e| {
            matches!(e, SyncError::EditedAndDropped { view: 2 })
        }),
        (Batch { recipients: vec![set(3, 7)], ..Batch::default() }, |e| {
            matches!(e, SyncError::UnknownView { view: 7 })
        }),
        (Batch { views: vec![ViewChange::Drop { view: 1 }], ..Batch::default() }, |e| {
            matches!(e, SyncError::ViewInUse { view: 1, recipients: 2 })
        }),
        (
            Batch {
                views: vec![edit(2, &[], &[]), ViewChange::Drop { view: 1 }],
                recipients: vec![set(1, 2)],
                ..Batch::default()
            },
            |e| matches!(e, SyncError::ViewInUse { view: 1, recipients: 1 }),
        ),
    ];
    for (batch, expected) in cases {
        let batch = Batch { revision: batch.revision.max(if batch.revision == 9 { 9 } else { 20 }), ..batch };
        let error = state.publish(batch).unwrap_err();
        assert!(expected(&error), "{error}");
        assert_eq!(error.code().name, "ERR_SYNC_BATCH");
        assert_eq!((state.revision(), state.counts()), before, "{error}");
    }
    // With both recipients moved in the same batch the view can go.
    let batch = Batch {
        revision: 20,
        views: vec![edit(2, &[1], &[]), ViewChange::Drop { view: 1 }],
        recipients: vec![set(1, 2), RecipientChange::Revoke { handle: 2 }],
        ..Batch::default()
    };
    state.publish(batch).unwrap();
    assert_eq!(state.counts(), [4, 1, 1, 0]);
}

#[test]
fn removed_ids_are_forgotten_once_told() {
    let mut state = State::bounded("e", 8);
    let start = Batch { revision: 1, views: vec![edit(1, &[], &[])], recipients: vec![set(1, 1)], ..Batch::default() };
    state.publish(start).unwrap();
    let session = state.attach(1, None).unwrap().session;
    for round in 0..1000 {
        let handle = 100 + round;
        let puts = vec![put(handle, "")];
        state.publish(Batch { revision: 2, puts, views: vec![edit(1, &[handle], &[])], ..Batch::default() }).unwrap();
        assert!(next(&mut state, 1, session).is_some());
        state.publish(Batch { revision: 2, removes: vec![handle], ..Batch::default() }).unwrap();
        let delta = message(next(&mut state, 1, session));
        assert_eq!(ids(&delta["removed"]), [format!("p{handle}")]);
    }
    assert!(state.removed_ids() <= 16, "{}", state.removed_ids());
}
