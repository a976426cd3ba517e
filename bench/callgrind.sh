#!/usr/bin/env bash
# Counts the instructions of one decision: the same everywhere and at any load, unlike times. Needs valgrind.
#   decide_*   Request::read and Snapshot::decide
#   check_*    the whole message: decoded, decided, sealed, recorded, encoded; without HTTP/2 and the audit writer
#   bench/callgrind.sh [PROFILE]
# With ANNOTATE=1 it also lists the functions that cost most in each case.
set -euo pipefail
cd "$(dirname "$0")/.."

command -v valgrind >/dev/null || { echo 'valgrind is missing: on Debian and Ubuntu, apt install valgrind.' >&2; exit 1; }
profile=${1-release}
target=${CARGO_TARGET_DIR:-$PWD/target}
cargo build --locked --quiet --profile "$profile" --example hot_path
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# Valgrind knows no AVX-512, which AWS-LC would use where the processor has it.
export OPENSSL_ia32cap='~0x0:~0xdc230000'

count() {
    valgrind --tool=callgrind --toggle-collect='*repeat_counted*' --callgrind-out-file="$folder/$1.$2" "$target/$profile/examples/hot_path" "$1" "$2" 2>&1 |
        sed -n 's/.*Collected : *//p'
}

printf '| case | instructions a decision |\n|---|---:|\n'
for case in decide decide_10000 decide_deny decide_10000_deny decide_first_seen check check_deny; do
    few=$(count "$case" 100)
    many=$(count "$case" 1100)
    printf '| %s | %d |\n' "$case" $(((many - few) / 1000))
    if [ -n "${ANNOTATE-}" ]; then
        callgrind_annotate --auto=no "$folder/$case.1100" | sed -n '/^Ir .*file:function/,$p' | awk 'NR <= 40' 
    fi
done
