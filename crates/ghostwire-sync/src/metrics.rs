//! What a server counts.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Defines the counters and the snapshot together, so that neither can lack what the other has.
macro_rules! metrics {
    (counters { $($(#[$counter_doc:meta])* $counter:ident,)* } gauges { $($(#[$gauge_doc:meta])* $gauge:ident,)* }) => {
        #[derive(Debug, Default)]
        pub(crate) struct Counters { $(pub(crate) $counter: AtomicU64,)* }

        /// A snapshot: counters since the start, and gauges as they stand.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Metrics {
            $($(#[$counter_doc])* pub $counter: u64,)*
            $($(#[$gauge_doc])* pub $gauge: u64,)*
        }

        impl Counters {
            /// The counters, with all gauges at 0.
            pub(crate) fn snapshot(&self) -> Metrics {
                Metrics { $($counter: self.$counter.load(Relaxed),)* ..Metrics::default() }
            }
        }
    };
}

metrics! {
    counters {
        /// Sockets accepted.
        accepted,
        /// Sockets turned away because too many were open.
        refused,
        /// Sockets that ended before a valid hello, whatever the reason.
        hellos_failed,
        /// Hellos with a token that was unknown, used or expired.
        tokens_refused,
        /// Tokens issued.
        tokens_issued,
        /// Connections that said a valid hello.
        connected,
        /// Connections ended because the peer had connected again.
        replaced,
        /// Connections ended because the peer was revoked.
        revoked,
        /// Connections ended because the peer did not read.
        too_slow,
        /// Connections ended because the peer was silent.
        silent,
        /// Connections ended because the peer broke the protocol after its hello.
        violations,
        /// Full maps sent.
        fulls,
        /// Resume answers sent that were not full maps.
        resumes,
        /// Deltas sent.
        deltas,
        /// Bytes of maps and deltas sent, frame headers included.
        bytes_sent,
        /// Batches published.
        publishes,
        /// Times that recipients were woken.
        flushes,
    }
    gauges {
        /// Connected recipients.
        connections,
        /// Open sockets, those before their hello included.
        sockets,
        /// Records.
        records,
        /// Views.
        views,
        /// Different filters of views.
        filters,
        /// Bytes of these, each held once.
        filter_bytes,
        /// Recipients, connected or not.
        recipients,
        /// Tokens that can still be used.
        tokens,
        /// The published revision.
        revision,
        /// The flush tick now, in milliseconds.
        tick_ms,
    }
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}
