#!/usr/bin/env bash
# Usage: scripts/drivers.sh
#
# Prints the value that VK_DRIVER_FILES needs for tests and demos, or nothing where the system's drivers are the best
# there are. On Debian 12 the lavapipe of bookworm-backports (Mesa 25) is unpacked into .drivers/, private to this
# source tree: it is five to ten times faster than the distribution's. The system itself is never changed.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

home=$root/.drivers
icd=$home/lvp_icd.json
state=$home/apt # package lists and downloads, removed when done

# The library of a finished unpack: the name "mesa-VERSION" is given by the last step alone.
unpacked() { find "$home"/mesa-*/ -name libvulkan_lvp.so -print -quit 2>/dev/null; }

private_apt() {
    local program=$1
    shift
    "$program" -q -o Dir::Etc::SourceList="$state/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::State::Lists="$state/lists" -o Dir::Cache="$state/cache" -o Acquire::http::Timeout=20 "$@"
}

# From the mirror that this system itself is configured with.
unpack_from_backports() {
    local mirror version
    rm -rf "$home"/mesa-* "$state"
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial" "$state/deb"
    # shellcheck disable=SC2016 # the dollars are apt's
    mirror=$(apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' |
        sed -n 's/^bookworm //p' | head -n 1)
    [ -n "$mirror" ] || { echo "no mirror is configured for bookworm"; return 1; }
    echo "deb $mirror bookworm-backports main" >"$state/sources.list"
    private_apt apt-get update || return 1
    version=$(private_apt apt-cache madison mesa-vulkan-drivers | awk -F ' *[|] *' 'NR == 1 { print $2 }')
    [ -n "$version" ] || { echo "bookworm-backports has no mesa-vulkan-drivers"; return 1; }
    (cd "$state/deb" && private_apt apt-get download "mesa-vulkan-drivers=$version") || return 1
    dpkg -x "$state"/deb/mesa-vulkan-drivers_*.deb "$state/tree" || return 1
    if ldd "$(find "$state/tree" -name libvulkan_lvp.so)" | grep 'not found'; then
        echo "the driver needs libraries that scripts/setup.sh installs"
        return 1
    fi
    mv "$state/tree" "$home/mesa-$version" && rm -rf "$state"
}

library=$(unpacked) || true
if [ -z "$library" ]; then
    if ! (. /etc/os-release && [ "$ID" = debian ] && [ "${VERSION_ID:-}" = 12 ]) 2>/dev/null; then
        exit 0
    fi
    say "unpacking a newer lavapipe into .drivers/"
    mkdir -p "$home"
    if ! unpack_from_backports >"$home/log" 2>&1; then
        say "no newer lavapipe: $(tail -n 1 "$home/log"); tests use the system's"
        exit 0
    fi
    library=$(unpacked)
fi

# Written anew when the source tree has moved.
if ! grep -qsF "\"$library\"" "$icd"; then
    printf '{"file_format_version": "1.0.0", "ICD": {"library_path": "%s", "api_version": "1.3.0"}}\n' "$library" >"$icd"
fi

# Where there may be a GPU, its drivers stay visible: every ICD of the system but its lavapipe.
files=$icd
if compgen -G '/dev/dri/render*' >/dev/null || compgen -G '/dev/nvidia[0-9]*' >/dev/null || [ -e /dev/dxg ]; then
    for file in /etc/vulkan/icd.d/*.json /usr/local/share/vulkan/icd.d/*.json /usr/share/vulkan/icd.d/*.json; do
        if [ -e "$file" ] && [[ ${file##*/} != lvp_icd* ]]; then files+=:$file; fi
    done
fi
echo "$files"
