//! Why the server ends a connection, as the peer is told: an error message first, then a close code.

use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::Utf8Bytes;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// The reasons, with the words that go over the wire. Codes from 4000 up are this protocol's own (RFC 6455, 7.4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Farewell {
    Stopping,
    Revoked,
    Replaced,
    /// Says nothing of why: an unknown token, a used one and an expired one look alike.
    TokenInvalid,
    HelloInvalid,
    HelloLate,
    TooLarge,
    Unexpected,
}

impl Farewell {
    /// The last message, if one goes before the close frame.
    pub(crate) fn message(self) -> Option<&'static str> {
        Some(match self {
            Self::Stopping => return None,
            Self::Revoked => r#"{"type":"revoked"}"#,
            Self::Replaced => {
                r#"{"type":"error","code":"ERR_REPLACED","message":"this peer has connected again elsewhere"}"#
            }
            Self::TokenInvalid => {
                r#"{"type":"error","code":"ERR_TOKEN_INVALID","message":"the token is unknown, used or expired"}"#
            }
            Self::HelloInvalid => {
                r#"{"type":"error","code":"ERR_HELLO_INVALID","message":"the first message must be a hello"}"#
            }
            Self::HelloLate => r#"{"type":"error","code":"ERR_HELLO_TIMEOUT","message":"no hello came in time"}"#,
            Self::TooLarge => {
                r#"{"type":"error","code":"ERR_MESSAGE_TOO_LARGE","message":"a message is over the size limit"}"#
            }
            Self::Unexpected => {
                r#"{"type":"error","code":"ERR_MESSAGE_UNEXPECTED","message":"nothing but control frames may follow the hello"}"#
            }
        })
    }

    pub(crate) fn close_frame(self) -> CloseFrame {
        let (code, reason) = match self {
            Self::Stopping => (1001, "stopping"),
            Self::Revoked => (4001, "revoked"),
            Self::Replaced => (4002, "replaced"),
            Self::TokenInvalid => (4003, "token invalid"),
            Self::HelloLate => (4004, "hello timeout"),
            Self::HelloInvalid | Self::Unexpected => (1008, "protocol violation"),
            Self::TooLarge => (1009, "too large"),
        };
        CloseFrame { code: CloseCode::from(code), reason: Utf8Bytes::from_static(reason) }
    }
}
