//! Lets the linker leave the N-API symbols to the Node process.

fn main() {
    napi_build::setup();
}
