#!/usr/bin/env bash
# icecore beside restic and borg on the Linux kernel source: two revisions of Debian's package linux-source-6.1.
#
#   benches/compare/kernel.sh WORK [--rounds N] [--old VERSION] [--new VERSION]
#
# WORK is a folder for everything (12 GB; what is prepared there is used again). Prints a Markdown table, and writes all figures to
# WORK/results/*.json. Without --old and --new: the newest version that the archive has, and the newest one before it of another
# upstream release; where there is none, an edited copy, which is the same each time. Needs Debian with Python 3, a Rust toolchain
# and a C compiler; gets restic and borgbackup with apt-get if they are missing, as root or through sudo.
#
# Run it on a machine that does nothing else.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
project=$(cd "$here/../.." && pwd)
package=linux-source-6.1
rounds=3 old='' new='' work=''

usage() {
    sed -n '4p' "$0" | cut -c 3- >&2
    exit 2
}

while (($#)); do
    case $1 in
    --rounds | --old | --new)
        (($# > 1)) || usage
        printf -v "${1#--}" %s "$2"
        shift 2
        ;;
    -*) usage ;;
    *)
        [[ -z $work ]] || usage
        work=$1
        shift
        ;;
    esac
done
[[ -n $work ]] || usage
mkdir -p "$work"
work=$(cd "$work" && pwd)

fail() {
    printf '%s\n' "$1" >&2
    exit 1
}

as_root() {
    if ((EUID == 0)); then "$@"; else sudo "$@"; fi
}

install_peers() {
    if command -v restic borg >/dev/null; then return; fi
    as_root apt-get update
    as_root apt-get install --yes --no-install-recommends restic borgbackup
}

# Versions that the archive has, newest first.
versions() {
    apt-cache madison "$package" | awk '{ print $3 }'
}

# The newest version after `$new` in that list that is of another upstream release.
version_before() {
    versions | awk -v new="$new" '
        function upstream(version) { sub(/-[^-]*$/, "", version); return version }
        $1 == new { is_older = 1 }
        is_older && !found && upstream($1) != upstream(new) { print $1; found = 1 }
    '
}

choose_versions() {
    [[ -n $(versions) ]] || as_root apt-get update
    [[ -n $new ]] || new=$(versions | sed -n 1p)
    [[ -n $new ]] || fail "the archive has no $package"
    [[ -n $old ]] || old=$(version_before)
}

# unpack VERSION FOLDER: the source tree of a version as FOLDER.
unpack() {
    local version=$1 folder=$2 temporary=$work/unpacking
    rm -rf "$temporary"
    mkdir -p "$temporary"
    (cd "$temporary" && apt-get download "$package=$version" && dpkg-deb --extract ./*.deb package)
    tar --extract --xz --directory "$temporary" --file "$temporary/package/usr/src/$package.tar.xz"
    mv "$temporary/$package" "$folder"
    rm -rf "$temporary"
}

prepare_revisions() {
    local revisions=$work/revisions
    if [[ -e $revisions/complete ]]; then
        [[ -z $old$new ]] || fail "$revisions is there already; to have other versions, remove it or name another folder"
        return
    fi
    choose_versions
    rm -rf "$revisions"
    mkdir -p "$revisions"
    if [[ -n $old ]]; then
        unpack "$old" "$revisions/a"
        unpack "$new" "$revisions/b"
    else
        unpack "$new" "$revisions/a"
        cp -a "$revisions/a" "$revisions/b"
        python3 "$here/edit_tree.py" "$revisions/b"
        old=$new new="$new, edited"
    fi
    printf '%s %s\n%s %s\n' "$package" "$old" "$package" "$new" >"$revisions/complete"
}

install_peers
prepare_revisions
cd "$project"
cargo build --release --locked -p icecore-cli
target=$(cargo metadata --locked --no-deps --format-version 1 | python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
commit=$(git describe --always --dirty --abbrev=12 --exclude '*' 2>/dev/null || echo unknown)
exec python3 "$here/rounds.py" --work "$work" --icecore "$target/release/icecore" --commit "$commit" --rounds "$rounds"
