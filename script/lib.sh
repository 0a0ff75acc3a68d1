# shellcheck shell=bash
# What the scripts beside it share: a Python, its virtual environment, Debian's packages, a broker.
# It asks nobody anything, needs no terminal and no root, and touches the network only when something is missing.
# Who sources it has said `set -euo pipefail`.

unset CDPATH
ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
VENV=$ROOT/.venv
PATH=$PATH:/usr/sbin:/sbin # where Debian keeps mosquitto and systemd-nspawn; not in the path of plain users

say() { printf '%s\n' "$*" >&2; }
die() {
    say "${0##*/}: $*"
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# quietly WHAT COMMAND...: one line of progress while the command runs; the end of its output if it fails.
quietly() {
    local what=$1 log ticker='' rc=0
    shift
    log=$(mktemp)
    if [ -t 2 ]; then
        # The command stays in the foreground, so that Ctrl-C reaches it; only the ticker is in the background.
        (
            start=$SECONDS
            while kill -0 $$ 2>/dev/null; do
                printf '\r%s ... %d s ' "$what" $((SECONDS - start)) >&2
                sleep 1
            done
        ) &
        ticker=$!
    else
        say "$what ..."
    fi
    "$@" >"$log" 2>&1 </dev/null || rc=$?
    if [ -n "$ticker" ]; then
        kill "$ticker" 2>/dev/null || true
        wait "$ticker" 2>/dev/null || true
        printf '\r\033[K' >&2
    fi
    if [ "$rc" != 0 ]; then
        say "$what failed; the end of its output:"
        tail -n 15 "$log" | sed 's/^/    /' >&2
    fi
    rm -f "$log"
    return "$rc"
}

is_root() { [ "$(id -u)" = 0 ]; }
can_be_root() { is_root || sudo -n true 2>/dev/null; }
as_root() { if is_root; then "$@"; else sudo -n "$@"; fi; }

_have_lists() { [ -n "$(find /var/lib/apt/lists -maxdepth 1 -name '*_Packages*' -print -quit 2>/dev/null)" ]; }
_apt_get() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=120 "$@"; }
_apt_install() {
    _have_lists || _apt_get update || return
    # Old lists name versions that the mirror has dropped: read them anew once.
    _apt_get install --no-install-recommends "$@" || { _apt_get update && _apt_get install --no-install-recommends "$@"; }
}

# apt_install PACKAGE...: through root or a sudo that asks for no password; fails, silently, where there is neither.
apt_install() {
    have apt-get && can_be_root || return 1
    quietly "Installing Debian's $*" _apt_install "$@"
}

# need_debian PACKAGE COMMAND: the command is there afterwards, or the script ends and says what to type.
need_debian() {
    have "$2" || apt_install "$1" || die "the command $2 is missing; install it first: sudo apt-get install $1"
}

_is_python() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1 </dev/null; }
_has_venv() { "$1" -c 'import ensurepip, venv' >/dev/null 2>&1 </dev/null; }

# find_python [TEST]: prints the first Python >= 3.10 that passes TEST. PYTHON, one name or several, says where to look.
find_python() {
    local name
    for name in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.10 python3.14}; do
        if have "$name" && _is_python "$name" && "${1:-true}" "$name"; then
            command -v "$name"
            return
        fi
    done
    return 1
}

# need_python: prints one that can make virtual environments; Debian keeps that part in a package of its own.
need_python() {
    local python version
    if find_python _has_venv; then return; fi
    if python=$(find_python); then
        version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
        apt_install "python$version-venv" || true
        _has_venv "$python" || die "$python can't make virtual environments; install first: sudo apt-get install python$version-venv"
        printf '%s\n' "$python"
    elif [ -n "${PYTHON:-}" ] || ! apt_install python3 python3-venv || ! find_python _has_venv; then
        die "no Python 3.10 or later found (looked for: ${PYTHON:-python3, python3.10 to python3.14}); install python3 and python3-venv, or name one: PYTHON=/path/to/python3 $0"
    fi
}

# What an environment was installed from: both files, the interpreter, and the path, since environments can't be moved.
_stamp() {
    { cat "$ROOT/setup.cfg" "$ROOT/pyproject.toml" && "$VENV/bin/python" -c 'import sys; print(sys.version, sys.prefix)'; } 2>/dev/null |
        sha256sum | cut -d ' ' -f 1
}

_make_venv() {
    local extras=$1 wanted stamp python
    # Whoever has the test tools has all that the demo needs.
    if stamp=$(_stamp); then
        for wanted in "$extras" test; do
            [ "$(cat "$VENV/.installed-${wanted:-base}" 2>/dev/null)" != "$stamp" ] || return 0
        done
    fi
    # A working environment is updated; a broken or moved one is made anew.
    if ! "$VENV/bin/python" -c "import pip, sys; sys.exit(sys.prefix != '$VENV')" >/dev/null 2>&1; then
        python=$(need_python) || exit 1
        quietly "Making .venv with $python" "$python" -m venv --clear "$VENV" || exit 1
    fi
    (cd -- "$ROOT" && quietly "Installing Python packages into .venv" "$VENV/bin/python" -m pip install -e ".${extras:+[$extras]}") || exit 1
    _stamp >"$VENV/.installed-${extras:-base}"
}

# need_venv [EXTRAS]: $VENV/bin/python has edge_agent, editable, with what setup.cfg says today.
need_venv() {
    # Two scripts started at once must not install over each other.
    if have flock; then (flock 9 && _make_venv "${1:-}" 9>&-) 9<"$ROOT" || exit 1; else (_make_venv "${1:-}") || exit 1; fi
}

# The packages are Debian's own, fetched and checked by apt, but only unpacked: nothing of the system changes.
_unpack_mosquitto() {
    local dir=$1 packages
    local -a apt=(apt-get -q -o "Dir::Cache=$dir/cache" -o Debug::NoLocking=1)
    mkdir -p "$dir/cache/archives/partial" "$dir/lists/partial" "$dir/debs"
    if ! _have_lists; then
        apt+=(-o "Dir::State::lists=$dir/lists")
        "${apt[@]}" update || return
    fi
    # A simulated installation names the broker and exactly the libraries that this system lacks.
    packages=$("${apt[@]}" -s install --no-install-recommends mosquitto | sed -n 's/^Inst \([^ ]*\) .*/\1/p')
    [ -n "$packages" ] || return 1
    # shellcheck disable=SC2086  # one word for each package
    (cd "$dir/debs" && "${apt[@]}" download $packages) || return
    for deb in "$dir"/debs/*.deb; do dpkg -x "$deb" "$dir" || return; done
    # shellcheck disable=SC2016  # expanded when the wrapper runs
    {
        printf '#!/bin/sh\n# Runs the unpacked broker with the libraries beside it.\n'
        printf 'dir=$(dirname -- "$(readlink -f -- "$0")")\n'
        printf 'LD_LIBRARY_PATH=$(echo "$dir"/usr/lib/*-linux-* "$dir"/lib/*-linux-* | tr " " :)${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}\n'
        printf 'export LD_LIBRARY_PATH\nexec "$dir/usr/sbin/mosquitto" "$@"\n'
    } >"$dir/mosquitto"
    chmod +x "$dir/mosquitto"
    rm -rf "$dir/cache" "$dir/lists" "$dir/debs"
}

# ensure_mosquitto DIR: sets MOSQUITTO to a broker: the system's, or one unpacked into DIR where root is not ours.
ensure_mosquitto() {
    local dir=$1 hint="install it first: sudo apt-get install mosquitto"
    if MOSQUITTO=$(command -v mosquitto); then return; fi
    if is_root && have apt-get; then
        apt_install mosquitto || die "the MQTT broker mosquitto is missing and could not be installed; $hint"
        MOSQUITTO=$(command -v mosquitto)
        return
    fi
    MOSQUITTO=$dir/mosquitto
    if [ ! -x "$MOSQUITTO" ]; then
        if ! have apt-get || ! have dpkg; then die "the MQTT broker mosquitto is missing; install it first"; fi
        quietly "Fetching Debian's mosquitto into ${dir#"$ROOT"/}" _unpack_mosquitto "$dir" || die "the MQTT broker mosquitto is missing; $hint"
    fi
    # Usage goes to stdout with an exit status of its own; a library that is not found leaves stdout empty.
    [ -n "$("$MOSQUITTO" -h 2>/dev/null)" ] || die "the unpacked broker $MOSQUITTO does not start here; $hint"
}
