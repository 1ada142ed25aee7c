#!/bin/sh
# The JavaScript suite with zqlite's addon, SQLite included, under AddressSanitizer. Needs a nightly toolchain and gcc.
# Leaks are not looked for: Node leaves memory behind when it ends. `npm run torture -- leaks` looks for ours.
set -eu
cd "$(dirname "$0")/.."
target=$(rustc +nightly -vV | sed -n 's/^host: //p')
# SQLite is C: .cargo/config.toml says how it is compiled, CFLAGS adds to it.
CFLAGS='-fsanitize=address -fno-omit-frame-pointer' RUSTFLAGS='-Zsanitizer=address' \
  cargo +nightly build -p zqlite-node --target "$target" --target-dir target/asan
cp "target/asan/$target/debug/libzqlite_node.so" target/asan/zqlite.node
LD_PRELOAD=$(gcc -print-file-name=libasan.so)
export LD_PRELOAD
export ASAN_OPTIONS=detect_leaks=0:abort_on_error=1
export NAPI_RS_NATIVE_LIBRARY_PATH="$PWD/target/asan/zqlite.node"
exec node node_modules/ava/entrypoints/cli.mjs --timeout=300s "$@"
