#!/usr/bin/env bash
# Usage: scripts/setup.sh [--tests] [--check]
#
# Installs the packages that building and running Tessera needs and that are missing: Debian 12 and 13, Ubuntu 24.04.
# Nothing but the distribution's own packages; nothing at all when everything is there.
#   --tests   also what the tests use
#   --check   only print what is missing; exit status 1 if anything is
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

# a|b: either will do, and the first is what gets installed.
build_packages=(
    gcc libc6-dev cmake ninja-build ccache
    zlib1g-dev                    # MNIST files are gzip
    libjansson-dev                # the headers of safetensors files are JSON
    opencl-headers libvulkan-dev  # headers only: drivers are opened at run time
    glslang-tools spirv-tools     # kernels to SPIR-V
)
run_packages=(
    'ocl-icd-libopencl1|nvidia-libopencl1|intel-oneapi-opencl-icd' pocl-opencl-icd # OpenCL, on the CPU at least
    libvulkan1 mesa-vulkan-drivers                                                 # Vulkan, on the CPU at least
    'libopenblas0-pthread|libopenblas0-openmp|libopenblas0-serial'                 # opened at run time by the CPU device
)
test_packages=(libcmocka-dev pkg-config g++ clang clang-format valgrind vulkan-validationlayers)
test_packages_if_any=(oclgrind) # not in every distribution; tests that need one of them say that they are skipped

packages=("${build_packages[@]}" "${run_packages[@]}")
if_any=()
check=false
for option; do
    case $option in
        --tests) packages+=("${test_packages[@]}"); if_any=("${test_packages_if_any[@]}") ;;
        --check) check=true ;;
        -h | --help) usage; exit ;;
        *) die "unknown option $option; --help lists them" ;;
    esac
done

# A system without apt: say what is needed, and go on if the build can be tried.
if ! have apt-get || ! have dpkg-query; then
    absent=()
    for command in cc cmake; do have $command || absent+=("$command"); done
    have glslangValidator || have glslang || absent+=(glslangValidator)
    if [ ${#absent[@]} -eq 0 ]; then
        say "no apt-get here, so nothing is installed; going on with the compiler, cmake and glslang that are here"
        exit 0
    fi
    die "no apt-get here, and ${absent[*]} not found. Needed: a C11 compiler, CMake 3.22, Ninja, glslang and spirv-tools," \
        "the headers of zlib, jansson, OpenCL and Vulkan; to run: OpenBLAS and the drivers of your devices; for tests: cmocka."
fi

mapfile -t names < <(printf '%s\n' "${packages[@]}" "${if_any[@]}" | tr '|' '\n')
installed=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "${names[@]}" 2>/dev/null | sed -n 's/^installed //p') || true
missing=()
for package in "${packages[@]}"; do
    grep -qxE "${package//+/\\+}" <<<"$installed" || missing+=("${package%%|*}")
done
# Of the packages that may not exist: those that do, as far as the lists that are here tell.
add_if_any() {
    local package
    for package in "${if_any[@]}"; do
        case " ${missing[*]} " in *" $package "*) continue ;; esac
        if ! grep -qxF "$package" <<<"$installed" && [ -n "$(apt-cache madison "$package" 2>/dev/null)" ]; then
            missing+=("$package")
        fi
    done
}
add_if_any
[ ${#missing[@]} -gt 0 ] || exit 0

if $check; then
    printf 'missing: %s\n' "${missing[*]}"
    exit 1
fi

install="apt-get install -y --no-install-recommends ${missing[*]}"
if [ "$(id -u)" -eq 0 ]; then
    as_root=(env)
elif have sudo && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
    as_root=(sudo env)
else
    die "packages are missing and this is neither root nor sudo; have an administrator run: apt-get update && $install"
fi

say "installing ${missing[*]}"
as_root+=(DEBIAN_FRONTEND=noninteractive)
"${as_root[@]}" apt-get update -q || say "apt-get update failed; going on with the package lists that are here"
add_if_any
install="apt-get install -y --no-install-recommends ${missing[*]}"
# shellcheck disable=SC2086 # the command is words, and no package name holds a blank
"${as_root[@]}" $install ||
    die "the command above failed: $install (on Ubuntu, some of these are in 'universe')"
