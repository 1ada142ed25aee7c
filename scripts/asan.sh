#!/bin/sh
# The JavaScript suite with zqlite's addon, SQLite included, under AddressSanitizer. Needs a nightly toolchain and gcc, and
# what `npm run build` makes. Leaks are not looked for: Node leaves memory behind when it ends. `npm run torture -- leaks`
# looks for ours. What was freed is kept back for less than usual, since some tests measure memory.
set -eu
# The sanitized addon is larger than a package may be, which the tests of publishing see to.
[ $# -gt 0 ] || set -- '__test__/*.test.ts' '!__test__/publish.test.ts'
cd "$(dirname "$0")/.."
target=$(rustc +nightly -vV | sed -n 's/^host: //p')
# SQLite is C: .cargo/config.toml says how it is compiled, CFLAGS adds to it.
CFLAGS='-fsanitize=address -fno-omit-frame-pointer' RUSTFLAGS='-Zsanitizer=address' \
  cargo +nightly build -p zqlite-node --target "$target" --target-dir target/asan
# In the place of the shipped one, as users load it. A new file each time: the old one may be in use.
addon=$(ls dist/zqlite.*.node)
ln -f "$addon" target/asan/shipped.node
restore() { mv -f target/asan/shipped.node "$addon"; }
trap restore EXIT
trap 'exit 130' INT TERM
cp "target/asan/$target/debug/libzqlite_node.so" target/asan/zqlite.node
mv -f target/asan/zqlite.node "$addon"
LD_PRELOAD=$(gcc -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0:abort_on_error=1:quarantine_size_mb=8 \
  node node_modules/ava/entrypoints/cli.mjs --timeout=300s "$@"
