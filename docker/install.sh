#!/bin/sh
# Install what Python packages cannot bring: OpenGL for rendering without a display, uv, and Python itself.
# Does nothing, in milliseconds, when all is there. Debian 12 and 13, Ubuntu 22.04 and later; root or sudo.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
PATH="$here/.uv/bin:$PATH:/sbin:/usr/sbin:${HOME:-/root}/.local/bin"

has_library() {
    ldconfig -p 2>/dev/null | grep -q "lib$1\.so"
}

as_root=""
[ "$(id -u)" = 0 ] || as_root=sudo

can_apt_install() {
    command -v apt-get >/dev/null && { [ -z "$as_root" ] || command -v sudo >/dev/null; }
}

apt_install() {
    can_apt_install || {
        echo "install.sh: apt-get, and root or sudo, are needed to install: $*" >&2
        exit 1
    }
    $as_root apt-get -qq update
    for package in "$@"; do
        # A release may have dropped one of them (Mesa 25.1 has no OSMesa); software EGL then takes its place.
        if apt-cache show "$package" >/dev/null 2>&1; then
            $as_root env DEBIAN_FRONTEND=noninteractive \
                apt-get -qq install -y --no-install-recommends "$package" >/dev/null
        else
            mkdir -p "$here/.uv" && : >"$here/.uv/no-$package"
        fi
    done
}

# A package that this release does not have is remembered, so that the next start does not ask again.
if ! has_library EGL || ! { has_library OSMesa || [ -e "$here/.uv/no-libosmesa6" ]; }; then
    apt_install libegl1 libgl1 libgl1-mesa-dri libosmesa6
fi

# What only the viewers' tests need, and only where they must not be skipped: a browser, and a screen without a screen.
if [ -n "${WHISKER_BROWSER_TESTS:-}" ]; then
    for command in chromium Xvfb xdotool; do
        command -v "$command" >/dev/null || missing=$command
    done
    [ -z "${missing:-}" ] ||
        apt_install chromium xvfb xdotool fonts-dejavu-core libxcursor1 libxi6 libxinerama1 libxrandr2
fi

# What only SimplerEnv needs: a software renderer for Vulkan, Mesa 25 or later. Debian 13 has it. Debian 12 has it in
# its backports, whose package would also replace the OSMesa that draws MuJoCo's images, and other images are other
# numbers. So it is only unpacked here, for `sim/simpler_bench/installation.py` to find.
unpack_vulkan_driver() {
    apt_install libvulkan1 libllvm15 libxcb-randr0 libxcb-sync1 libxcb-xfixes0 libwayland-client0 libelf1
    folder="$here/.uv/vulkan"
    mkdir -p "$folder"
    uri=$(sed -n 's/^URIs: *//p' /etc/apt/sources.list.d/debian.sources | head -1)
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri bookworm-backports main" \
        >"$folder/backports.list"
    # A list of its own, in a folder of its own, so that the machine's apt knows nothing of it.
    mkdir -p "$folder/lists/partial"
    set -- -qq -o "Dir::Etc::SourceList=$folder/backports.list" -o Dir::Etc::SourceParts=/dev/null \
        -o "Dir::State::Lists=$folder/lists" -o APT::Sandbox::User=root
    $as_root apt-get "$@" update
    (cd "$folder" && $as_root apt-get "$@" download mesa-vulkan-drivers && dpkg -x mesa-vulkan-drivers_*.deb .)
    library=$(find "$folder/usr" -name libvulkan_lvp.so)
    sed "s#\"library_path\": *\"[^\"]*\"#\"library_path\": \"$library\"#" \
        "$folder"/usr/share/vulkan/icd.d/lvp_icd*.json >"$folder/lvp_icd.json"
}

if [ -n "${WHISKER_SIMPLER:-}" ]; then
    if grep -q bookworm /etc/os-release; then
        [ -e "$here/.uv/vulkan/lvp_icd.json" ] || unpack_vulkan_driver
    else
        ls /usr/share/vulkan/icd.d/lvp_icd*.json >/dev/null 2>&1 || apt_install mesa-vulkan-drivers libvulkan1
    fi
fi

# One that is found need not run: a shim of pyenv does not where another Python is chosen.
if ! uv --version >/dev/null 2>&1; then
    # A virtual environment of its own: also works where pip refuses to touch the system's (PEP 668).
    python3 -c 'import ensurepip' 2>/dev/null || apt_install python3-venv
    python3 -m venv "$here/.uv"
    "$here/.uv/bin/python" -m pip install --quiet --disable-pip-version-check uv
fi

# The Python that ./run will use: one that is already here, else this release's own, else one that uv downloads.
python="${UV_PYTHON:->=3.12,<3.14}"
has_python() {
    uv python find --no-python-downloads "$python" >/dev/null 2>&1
}
if ! [ -x "$here/.venv/bin/python" ] && ! has_python; then
    ! can_apt_install || apt_install python3.12 python3.13
    has_python || uv python install "$python" >/dev/null 2>&1 || {
        echo "install.sh: Python $python is neither on this machine nor among its packages, and uv could not" \
            "download it: install Python 3.12 or 3.13 and start again." >&2
        exit 1
    }
fi
