#!/usr/bin/env bash
# Bring a virtual environment up to date with a pinned set of packages: setup.sh FOLDER run|dev|ministack|cdk
#
# Quick when everything is in place. Starts afresh when the environment was moved, lost its Python, was left
# half-built, or holds an older set. PYTHON=... names the interpreter to build with.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=$1 set=$2
marker=$venv.building # holds the process id of who is at work
candidates=${PYTHON:-python3.13 python3.12 python3.11 python3}

locks() { # the files of one set
    case $1 in
    run) echo requirements/local.txt requirements/build.txt ;;
    cdk | dev | ministack) echo "requirements/$1.txt" ;;
    esac
}

# A stamp holds the checksum of what was installed; it is written when the install is complete.
key() {
    case $1 in
    project) cat pyproject.toml controller/__init__.py ;;
    *) cat $(locks "$1") ;;
    esac | cksum
}
stamped() { [[ -e $venv/.stamps/$1 ]]; }
current() { stamped "$1" && [[ $(<"$venv/.stamps/$1") == "$(key "$1")" ]]; }
stamp() { mkdir -p "$venv/.stamps" && key "$1" >"$venv/.stamps/$1"; }

in_place() { # made for this folder, and its Python still runs
    grep -qF "$PWD/$venv/bin/" "$venv/bin/pip" 2>/dev/null && "$venv/bin/python" -c '' 2>/dev/null
}

holds_project() { [[ $set != cdk && $set != ministack ]]; } # the others are environments of a tool
complete() { current "$set" && { ! holds_project || current project; }; }

outdated() { # pins changed: what left the set must not linger
    local one
    for one in run dev ministack cdk; do
        if stamped "$one" && ! current "$one"; then return 0; fi
    done
    return 1
}

claim() { # one builder at a time; what a dead one left behind is not trusted
    local builder told=""
    until (set -o noclobber && echo "$$" >"$marker") 2>/dev/null; do
        builder=$(cat "$marker" 2>/dev/null || true)
        if [[ -n $builder ]] && ! kill -0 "$builder" 2>/dev/null; then
            echo "The last setup of $venv did not finish: starting afresh."
            rm -rf "$venv" "$marker"
            continue
        fi
        [[ -n $told ]] || echo "Another make is setting up $venv: waiting for it. (If none is, delete $marker.)"
        told=yes
        sleep 1
    done
}

pick_python() {
    local candidate without_venv=""
    for candidate in $candidates; do
        "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue
        if "$candidate" -c 'import ensurepip, venv' >/dev/null 2>&1; then
            echo "$candidate"
            return
        fi
        without_venv=$candidate
    done
    if [[ -n $without_venv ]]; then
        echo "error: $without_venv cannot make virtual environments" >&2
        echo "  part of its venv module is missing" >&2
        echo "  on Debian and Ubuntu: apt-get install python3-venv" >&2
    else
        echo "error: no Python 3.11 or newer (looked for: $candidates)" >&2
        echo "  editctl is written for Python 3.11 and later" >&2
        echo "  install one, or say where one is: make PYTHON=/path/to/python3.11 ..." >&2
    fi
    return 1
}

pip_install() { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input --no-compile "$@"; }

if [[ ! -e $marker ]] && in_place && complete; then exit 0; fi

started=$SECONDS
claim
if [[ -e $venv ]] && ! in_place; then
    echo "$venv was moved here, or its Python is gone: starting afresh."
    rm -rf "$venv"
elif outdated; then
    echo "The pinned packages changed: starting $venv afresh."
    rm -rf "$venv"
fi
if [[ ! -e $venv ]]; then
    python=$(pick_python) || { rm -f "$marker"; exit 1; }
    "$python" -m venv "$PWD/$venv"
fi
if ! current "$set"; then
    files=() packages=0
    for file in $(locks "$set"); do
        files+=(-r "$file")
        packages=$((packages + $(grep -c '^[a-z].*==' "$file")))
    done
    echo "Installing $packages pinned packages into $venv; later runs skip this."
    pip_install --require-hashes "${files[@]}"
    stamp "$set"
    if [[ $set == dev ]]; then stamp run; fi # dev holds all of run
fi
if holds_project && ! current project; then
    pip_install --no-deps --no-build-isolation --editable .
    stamp project
fi
rm -f "$marker"
echo "$venv is ready ($("$venv/bin/python" --version), $((SECONDS - started)) s)."
