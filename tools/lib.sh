# SPDX-License-Identifier: MIT
#
# What the scripts in this folder share; sourced by them, in the repository's top folder, with `set -eu`.  POSIX sh.
# A step prints one line and keeps the rest in build/logs/, which is shown when the step fails.

cd "$(dirname "$0")/.."
top=$PWD
unset MAKEFLAGS MAKEOVERRIDES MFLAGS MAKELEVEL # VERSION=X.Y, to our make, is not for the makes of others
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_INPUT=1
logs=build/logs
mkdir -p "$logs"

say() {
    printf '%s\n' "rloop: $*" >&2
}

die() {
    say "$@"
    exit 1
}

# quietly NAME COMMAND...: what the command prints goes to a log, and is shown if it fails.
quietly() {
    log=$logs/$1.log
    shift
    if ! "$@" >"$log" 2>&1 </dev/null; then
        cat "$log" >&2
        say "failed: $*"
        return 1
    fi
}

# The lines "X.Y PATH" of find_python for all, oldest, newest, or both ends; a Python is got, or the script ends, if there is none.
pythons() {
    found=$(tools/find_python "$1")
    if [ -z "$found" ] && [ -z "${PYTHON:-}" ]; then
        tools/system_packages python
        found=$(tools/find_python "$1")
    fi
    [ -n "$found" ] || exit 1
    printf '%s\n' "$found"
}

# as_root COMMAND...: run it if this may be done without asking for a password.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo -n "$@"
    fi
}

may_be_root() {
    [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null
}

# need_newest GROUP...: need_venv for the newest Python found.
need_newest() {
    found=$(pythons newest) || exit 1
    need_venv "${found%% *}" "${found#* }" "$@"
}

# need_venv X.Y PATH GROUP...: a virtual environment in .venv/X.Y with the tools of tools/requirements-GROUP.txt (or, where a
# version needs its own, requirements-GROUP-X.Y.txt), made or completed; sets $py to its python and $version.
need_venv() {
    version=$1
    base=$2
    shift 2
    venv=.venv/$version
    py=$top/$venv/bin/python
    identity="$base $("$base" -c 'import sys; print(sys.version)')"
    if ! "$py" -c '' 2>/dev/null || [ "$(cat "$venv/made-with" 2>/dev/null)" != "$identity" ]; then
        say "Python $version: making $venv with $base"
        rm -rf "$venv"
        make_venv || die "no virtual environment could be made with $base; its packages venv and pip are needed" \
            "(Debian: apt-get install python$version-venv)"
        printf '%s\n' "$identity" >"$venv/made-with"
    fi
    for group; do
        case $group in
        test | bench)
            tools/system_packages openssl || say "OpenSSL's headers are not here: the TLS scenarios can't be run"
            ;;
        esac
        wanted=tools/requirements-$group-$version.txt
        [ -e "$wanted" ] || wanted=tools/requirements-$group.txt
        if ! cmp -s "$wanted" "$venv/has-$group"; then
            say "Python $version: installing $wanted"
            quietly "pip-$version-$group" "$py" -m pip install -q -r "$wanted" ||
                die "pip could not install $wanted; with a working package index, type the command again"
            cp "$wanted" "$venv/has-$group"
        fi
    done
    PATH=$top/$venv/bin:$PATH
    export PATH
    case $version in
    *t) export PYTHON_GIL=0 ;; # an extension that does not say it can do without would turn it on
    esac
}

# Debian's system Pythons come without ensurepip: take its package, or another Python's pip.
make_venv() {
    if ! "$base" -c 'import ensurepip' 2>/dev/null; then
        tools/system_packages venv "$version" || true
    fi
    if "$base" -c 'import ensurepip' 2>/dev/null; then
        quietly "venv-$version" "$base" -m venv "$venv"
    else
        quietly "venv-$version" "$base" -m venv --without-pip "$venv" &&
            quietly "venv-pip-$version" python3 -m pip --python "$venv/bin/python" install -q pip
    fi
}

# need_rloop: build rloop for $version and install it in its virtual environment, unless nothing has changed since.
need_rloop() {
    stamp=$venv/has-rloop
    if [ -e "$stamp" ] && [ -z "$(find $rloop_sources \( -name __pycache__ -o -name results \) -prune -o -newer "$stamp" -print)" ]; then
        return
    fi
    tools/system_packages build
    say "Python $version: building and installing rloop"
    touch "$stamp.new"
    quietly "rloop-$version" "$py" -m pip install --no-build-isolation --no-deps --force-reinstall \
        -Cbuild-dir="build/py$version" . || exit 1
    mv "$stamp.new" "$stamp"
}
rloop_sources='bench csrc python meson.build meson.options pyproject.toml'

# need_build_folder FOLDER OPTION...: a meson build folder for tests, with asserts on; ninja keeps an old one up to date.
# It would install to /site, see need_site.
need_build_folder() {
    if [ ! -e "$1/build.ninja" ]; then
        rm -rf "$1"
        quietly "meson-${1##*/}" meson setup -Dbuildtype=debugoptimized -Db_ndebug=false \
            -Dpython.platlibdir=/site -Dpython.purelibdir=/site "$@" || exit 1
    fi
}

# need_site FOLDER: install rloop out of a build folder of tools/native into a folder for PYTHONPATH, $site.
need_site() {
    site=$top/$1/tree/site
    quietly "site-${1##*/}" meson install -C "$1" --destdir "$top/$1/tree" || exit 1
}

# need_sanitizers: $preload, the libraries of ASan and UBSan, which must come before Python's own; libstdc++ too, so that
# exceptions of C++ extensions are caught.
need_sanitizers() {
    preload=
    for library in libasan.so libubsan.so libstdc++.so.6; do
        path=$(${CC:-cc} -print-file-name="$library")
        case $path in
        /*) preload="$preload $path" ;;
        *) [ "$library" = libstdc++.so.6 ] || die "the compiler has no shared $library; set CC=gcc" ;;
        esac
    done
}

# inject_faults FOLDER ARGUMENT...: tests/faults/check.py on the rloop that need_site has installed out of a build folder;
# with what is to be preloaded besides ($preload).
inject_faults() {
    library=$top/$1/inject.so
    quietly faults-library "${CC:-cc}" -std=c11 -Wall -Wextra -O2 -g -fPIC -shared -fvisibility=hidden -o "$library" \
        tests/faults/inject.c tests/faults/inject_calls.c || exit 1
    shift
    PYTHONPATH=$site PYTHONMALLOC=malloc PYTHONHASHSEED=0 LD_PRELOAD="$library ${preload-}" "$py" tests/faults/check.py "$@"
}

c_files() {
    find csrc tests/native tests/faults bench -name '*.[ch]' | sort
}
