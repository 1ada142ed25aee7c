//! The hand-over between callers and lanes under a scheduler that tries many interleavings: no wake-up is lost, and every
//! call is answered once. `cargo test -p zqlite-store --features shuttle --lib interleaved`

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail anywhere")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use shuttle::thread;

use crate::flow::{Flow, Room};
use crate::job::{Answer, BeginMode, Call, Job, Post, Sink, Ticket, TransactionId, Want, Work};
use crate::queue::{Lead, Queue, Turn};
use crate::statement::Statements;
use crate::{ErrorCode, Params, Record};

const TRIES: usize = 300;

/// Counts answers, by token.
#[derive(Default)]
struct Counts([AtomicUsize; 8]);

impl Sink for Counts {
    fn deliver(&self, answers: &mut Vec<Answer>) {
        for answer in answers.drain(..) {
            self.0[answer.token as usize].fetch_add(1, SeqCst);
        }
    }
}

impl Counts {
    /// Without any further call that could wake a lane.
    fn wait_for(&self, n: usize) {
        while self.0.iter().map(|count| count.load(SeqCst)).sum::<usize>() < n {
            thread::yield_now();
        }
    }

    fn each_once(&self, n: usize) {
        for (token, count) in self.0.iter().enumerate().take(n) {
            assert_eq!(count.load(SeqCst), 1, "answers to call {token}");
        }
    }
}

fn call() -> Call {
    Call { statement: Statements::default().intern("SELECT 1"), params: Params::default(), want: Want::Rows }
}

fn job(sink: &Arc<Counts>, token: u32, work: Work) -> Job {
    Job { ticket: Ticket::new(sink.clone(), token), work, queued: Instant::now(), deadline: None, cancel: None }
}

fn queue() -> Arc<Queue> {
    Arc::new(Queue::new(100, Duration::from_secs(1_000)))
}

fn late() -> Instant {
    Instant::now() + Duration::from_secs(1_000)
}

#[test]
fn readers_share_what_callers_hand_over() {
    shuttle::check_random(
        || {
            let (queue, sink) = (queue(), Arc::<Counts>::default());
            let lanes: Vec<_> = (0..2)
                .map(|_| {
                    let queue = queue.clone();
                    thread::spawn(move || {
                        while let Some(share) = queue.take_share(2, 32, late()) {
                            share.into_iter().for_each(|job| job.ticket.answer(Ok(Record::default())));
                        }
                    })
                })
                .collect();
            let callers: Vec<_> = (0..3)
                .map(|i| {
                    let (queue, sink) = (queue.clone(), sink.clone());
                    thread::spawn(move || {
                        queue.push([job(&sink, 2 * i, Work::Run(call())), job(&sink, 2 * i + 1, Work::Run(call()))]);
                    })
                })
                .collect();
            callers.into_iter().for_each(|c| c.join().unwrap());
            sink.wait_for(6);
            queue.close();
            lanes.into_iter().for_each(|l| l.join().unwrap());
            sink.each_once(6);
        },
        TRIES,
    );
}

#[test]
fn a_lane_that_must_wait_passes_its_wake_up_on() {
    shuttle::check_random(
        || {
            let (queue, sink) = (queue(), Arc::<Counts>::default());
            let lane = {
                let queue = queue.clone();
                thread::spawn(move || {
                    while let Some(jobs) = queue.take_share(1, 1, late()) {
                        jobs.into_iter().for_each(|job| job.ticket.answer(Ok(Record::default())));
                    }
                })
            };
            let never = {
                let queue = queue.clone();
                thread::spawn(move || {
                    while let Some(jobs) = queue.take_late(late(), || Some(late())) {
                        assert!(queue.is_closed(), "it had to wait");
                        jobs.into_iter().for_each(|job| job.ticket.answer(Ok(Record::default())));
                    }
                })
            };
            for token in 0..4 {
                queue.push([job(&sink, token, Work::Run(call()))]);
            }
            sink.wait_for(4);
            queue.push([job(&sink, 4, Work::Run(call()))]);
            queue.close();
            lane.join().unwrap();
            never.join().unwrap();
            sink.each_once(5);
        },
        TRIES,
    );
}

#[test]
fn the_writer_serves_groups_and_a_transaction() {
    shuttle::check_random(
        || {
            let (queue, sink) = (queue(), Arc::<Counts>::default());
            let id = TransactionId(1);
            let begun = Arc::new(AtomicUsize::new(0));
            let writer = {
                let (queue, begun) = (queue.clone(), begun.clone());
                thread::spawn(move || {
                    let mut after = false;
                    while let Some(turn) = queue.take_turn(|| 8, after) {
                        after = matches!(turn, Turn::Transaction(..));
                        match turn {
                            Turn::Group(jobs) => {
                                jobs.into_iter().for_each(|job| job.ticket.answer(Ok(Record::default())));
                            }
                            Turn::Transaction(begin, id, _) => {
                                begin.ticket.answer(Ok(Record::default()));
                                begun.store(1, SeqCst);
                                while let Some(step) = queue.take_step(late()) {
                                    let ends = matches!(step.work, Work::Commit(_));
                                    step.ticket.answer(Ok(Record::default()));
                                    if ends {
                                        break;
                                    }
                                }
                                queue.end_transaction(id, false);
                            }
                            Turn::Maintenance(..) => panic!("nobody asked for maintenance"),
                        }
                        queue.turn_over();
                    }
                })
            };
            let other = {
                let (queue, sink) = (queue.clone(), sink.clone());
                thread::spawn(move || {
                    queue.push([job(&sink, 0, Work::Run(call()))]);
                    queue.push([job(&sink, 1, Work::Run(call()))]);
                })
            };
            queue.push([job(&sink, 2, Work::Begin(id, BeginMode::Immediate))]);
            while begun.load(SeqCst) == 0 {
                thread::yield_now();
            }
            queue.push([job(&sink, 3, Work::Step(id, call())), job(&sink, 4, Work::Step(id, call()))]);
            queue.push([job(&sink, 5, Work::Commit(id))]);
            other.join().unwrap();
            queue.close();
            writer.join().unwrap();
            sink.each_once(6);
        },
        TRIES,
    );
}

/// Answers a group, while nobody else has the turn.
fn serve_group(turn: Turn, at_work: &AtomicUsize) {
    let Turn::Group(jobs) = turn else { panic!("nobody asked for anything else") };
    assert_eq!(at_work.fetch_add(1, SeqCst), 0, "two have the turn");
    thread::yield_now();
    at_work.fetch_sub(1, SeqCst);
    jobs.into_iter().for_each(|job| job.ticket.answer(Ok(Record::default())));
}

#[test]
fn who_finds_the_writer_idle_does_its_work_and_nobody_waits_for_ever() {
    shuttle::check_random(
        || {
            let (queue, sink, at_work) = (queue(), Arc::<Counts>::default(), Arc::<AtomicUsize>::default());
            let writer = {
                let (queue, at_work) = (queue.clone(), at_work.clone());
                thread::spawn(move || {
                    while let Some(turn) = queue.take_turn(|| 8, false) {
                        serve_group(turn, &at_work);
                        queue.turn_over();
                    }
                })
            };
            let at_once: Vec<_> = (0..2)
                .map(|_| {
                    let (queue, at_work) = (queue.clone(), at_work.clone());
                    thread::spawn(move || {
                        for _ in 0..2 {
                            let post = Arc::<Post>::default();
                            let ticket = Ticket::new(post.clone(), 0);
                            let queued = Instant::now();
                            let job = Job { ticket, work: Work::Run(call()), queued, deadline: None, cancel: None };
                            if let Lead::Turn(job) = queue.push_or_lead(job) {
                                serve_group(Turn::Group(vec![job]), &at_work);
                                queue.turn_over();
                            }
                            assert_eq!(post.wait().unwrap().len(), 1);
                        }
                    })
                })
                .collect();
            for token in 0..3 {
                queue.push([job(&sink, token, Work::Run(call()))]);
            }
            at_once.into_iter().for_each(|caller| caller.join().unwrap());
            sink.wait_for(3);
            queue.close();
            writer.join().unwrap();
            sink.each_once(3);
        },
        TRIES,
    );
}

#[test]
fn a_queue_that_closes_while_a_caller_has_the_turn_ends_afterwards() {
    shuttle::check_random(
        || {
            let (queue, sink, at_work) = (queue(), Arc::<Counts>::default(), Arc::<AtomicUsize>::default());
            let Lead::Turn(led) = queue.push_or_lead(job(&sink, 0, Work::Run(call()))) else { panic!("it was idle") };
            let writer = {
                let (queue, at_work) = (queue.clone(), at_work.clone());
                thread::spawn(move || {
                    while let Some(turn) = queue.take_turn(|| 8, false) {
                        serve_group(turn, &at_work);
                        queue.turn_over();
                    }
                    assert_eq!(at_work.load(SeqCst), 0, "the lane ended while a caller had its turn");
                })
            };
            let closer = {
                let queue = queue.clone();
                thread::spawn(move || queue.close())
            };
            serve_group(Turn::Group(vec![led]), &at_work);
            queue.turn_over();
            closer.join().unwrap();
            writer.join().unwrap();
            sink.each_once(1);
        },
        TRIES,
    );
}

#[test]
fn what_is_handed_over_while_the_queue_closes_is_served_or_refused() {
    for aborts in [false, true] {
        shuttle::check_random(
            move || {
                let (queue, sink) = (queue(), Arc::<Counts>::default());
                let lane = {
                    let queue = queue.clone();
                    thread::spawn(move || {
                        while let Some(share) = queue.take_share(1, 32, late()) {
                            share.into_iter().for_each(|job| job.ticket.answer(Ok(Record::default())));
                        }
                    })
                };
                let caller = {
                    let (queue, sink) = (queue.clone(), sink.clone());
                    thread::spawn(move || {
                        for token in 0..4 {
                            queue.push([job(&sink, token, Work::Run(call()))]);
                        }
                    })
                };
                if aborts {
                    queue.abort()
                } else {
                    queue.close()
                }
                caller.join().unwrap();
                lane.join().unwrap();
                sink.each_once(4);
            },
            TRIES,
        );
    }
}

#[test]
fn steps_that_come_after_the_end_are_told() {
    shuttle::check_random(
        || {
            let (queue, sink) = (queue(), Arc::<Counts>::default());
            let id = TransactionId(1);
            queue.push([job(&sink, 0, Work::Begin(id, BeginMode::Immediate))]);
            let Some(Turn::Transaction(begin, ..)) = queue.take_turn(|| 8, false) else { panic!("no transaction") };
            begin.ticket.answer(Ok(Record::default()));
            let caller = {
                let (queue, sink) = (queue.clone(), sink.clone());
                thread::spawn(move || {
                    queue.push([job(&sink, 1, Work::Step(id, call()))]);
                    queue.push([job(&sink, 2, Work::Step(id, call()))]);
                })
            };
            queue.end_transaction(id, true);
            caller.join().unwrap();
            sink.each_once(3);
        },
        TRIES,
    );
}

#[test]
fn a_stream_runs_ahead_by_a_few_chunks_and_ends_with_its_reader() {
    shuttle::check_random(
        || {
            let flow = Arc::new(Flow::default());
            let (sent, taken) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let lane = {
                let (flow, sent, taken) = (flow.clone(), sent.clone(), taken.clone());
                thread::spawn(move || {
                    loop {
                        flow.sent();
                        let ahead = sent.fetch_add(1, SeqCst) + 1 - taken.load(SeqCst);
                        assert!(ahead <= 6, "{ahead} chunks ahead");
                        match flow.room(late()) {
                            Room::Free => {}
                            Room::None => panic!("nothing times out here"),
                            Room::Ended => return,
                        }
                    }
                })
            };
            for _ in 0..6 {
                while sent.load(SeqCst) <= taken.load(SeqCst) {
                    thread::yield_now();
                }
                taken.fetch_add(1, SeqCst);
                flow.take();
            }
            flow.end();
            lane.join().unwrap();
        },
        TRIES,
    );
}

#[test]
fn a_queue_that_is_held_is_served_when_it_is_let_go() {
    shuttle::check_random(
        || {
            let (queue, sink) = (queue(), Arc::<Counts>::default());
            queue.hold_until(Some(late()));
            let lane = {
                let queue = queue.clone();
                thread::spawn(move || {
                    let jobs = queue.take_share(1, 32, late()).unwrap_or_default();
                    jobs.into_iter().for_each(|job| job.ticket.fail(crate::Error::new(ErrorCode::Busy, "seen")));
                })
            };
            queue.push([job(&sink, 0, Work::Run(call()))]);
            queue.hold_until(None);
            lane.join().unwrap();
            sink.each_once(1);
        },
        TRIES,
    );
}

#[test]
fn no_turn_begins_while_the_log_is_full_and_each_does_afterwards() {
    shuttle::check_random(
        || {
            let (queue, sink, at_work) = (queue(), Arc::<Counts>::default(), Arc::<AtomicUsize>::default());
            let (full, turns) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
            // Every other commit fills the log, after which its turn goes on for a while.
            let turn = {
                let (queue, full) = (queue.clone(), full.clone());
                move |turn: Turn| {
                    assert_eq!(full.load(SeqCst), 0, "a turn of a full log");
                    if turns.fetch_add(1, SeqCst) % 2 == 1 {
                        queue.hold(true);
                        full.store(1, SeqCst);
                    }
                    serve_group(turn, &at_work);
                    queue.turn_over();
                }
            };
            let writer = {
                let (queue, turn) = (queue.clone(), turn.clone());
                thread::spawn(move || {
                    while let Some(next) = queue.take_turn(|| 1, false) {
                        turn(next);
                    }
                })
            };
            let steward = {
                let (queue, full) = (queue.clone(), full.clone());
                thread::spawn(move || {
                    while !queue.is_closed() {
                        if full.load(SeqCst) == 1 && !queue.is_working() {
                            full.store(0, SeqCst);
                            queue.hold(false);
                        }
                        thread::yield_now();
                    }
                })
            };
            let at_once = {
                let queue = queue.clone();
                thread::spawn(move || {
                    for _ in 0..3 {
                        let post = Arc::<Post>::default();
                        let ticket = Ticket::new(post.clone(), 0);
                        let queued = Instant::now();
                        let job = Job { ticket, work: Work::Run(call()), queued, deadline: None, cancel: None };
                        if let Lead::Turn(job) = queue.push_or_lead(job) {
                            turn(Turn::Group(vec![job]));
                        }
                        assert_eq!(post.wait().unwrap().len(), 1);
                    }
                })
            };
            for token in 0..3 {
                queue.push([job(&sink, token, Work::Run(call()))]);
            }
            at_once.join().unwrap();
            sink.wait_for(3);
            queue.close();
            steward.join().unwrap();
            writer.join().unwrap();
            sink.each_once(3);
        },
        TRIES,
    );
}

#[test]
fn what_waits_for_a_full_log_is_served_when_the_queue_closes() {
    shuttle::check_random(
        || {
            let (queue, sink, at_work) = (queue(), Arc::<Counts>::default(), Arc::<AtomicUsize>::default());
            queue.hold(true);
            let writer = {
                let queue = queue.clone();
                thread::spawn(move || {
                    while let Some(turn) = queue.take_turn(|| 8, false) {
                        assert!(queue.is_closed(), "it is held");
                        serve_group(turn, &at_work);
                        queue.turn_over();
                    }
                })
            };
            queue.push([job(&sink, 0, Work::Run(call())), job(&sink, 1, Work::Run(call()))]);
            queue.close();
            writer.join().unwrap();
            sink.each_once(2);
        },
        TRIES,
    );
}
