//! Pushes bytes to many sockets
