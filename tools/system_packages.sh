#!/bin/sh
# Install the programs named (each the name of a command and of its Debian package) where they are missing.
#
# As root on Debian through apt; elsewhere, and when apt cannot, say in one line what is skipped for want of it
# and go on. With `--venv PYTHON`: make sure that PYTHON can make virtual environments.
set -u

install() {
    [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null || return 1
    echo "installing $1"
    # One list of packages may be old or empty on a new machine, hence the update.
    { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "$1"; } \
        >/dev/null 2>&1
}

if [ "${1:-}" = --venv ]; then
    "$2" -c 'import ensurepip, venv' 2>/dev/null && exit 0
    install python3-venv && exit 0
    echo "$2 cannot make virtual environments: install Debian's python3-venv or the like" >&2
    exit 1
fi

for program in "$@"; do
    command -v "$program" >/dev/null && continue
    install "$program" && command -v "$program" >/dev/null && continue
    echo "$program is not installed: the tests that need it are skipped"
done
exit 0
