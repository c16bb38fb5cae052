#!/usr/bin/env bash
# Usage: scripts/gpu-check.sh [--pack] [--limit SECONDS]
#
# For a machine with a real GPU, which needs no network: builds, runs all tests, trains on every device, runs the
# benchmarks, and writes the results as JSON to $OUT, or to bench/results/GPU-DATE where OUT is not set. A phase that fails
# is reported and does not stop the ones after it; the exit status is 1 if any failed. What the machine lacks is named, and
# only what depends on it is left out.
#   --pack           on a machine with apt and network: download what GPU machines often lack into .gpu-pack/ (12 MB),
#                    which is used, if it is there, by a check on a machine of the same architecture; nothing is installed
#   --limit SECONDS  the most that a phase may take (600 if not given)
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

pack=$root/.gpu-pack
limit=600

make_pack() {
    rm -rf "$pack" && mkdir -p "$pack"
    (cd "$pack" && apt-get -q download ninja-build glslang-tools spirv-tools opencl-c-headers libvulkan-dev libvulkan1 \
        ocl-icd-libopencl1 zlib1g zlib1g-dev libjansson4 libjansson-dev libcmocka0 libcmocka-dev libopenblas0-pthread libgfortran5 libquadmath0) ||
        die "the packages could not be downloaded; apt-get update may help"
    say "$(du -sh "$pack" | cut -f 1) in .gpu-pack: take it along with the source tree"
}

while [ $# -gt 0 ]; do
    case $1 in
        --pack) make_pack; exit ;;
        --limit) limit=${2:?--limit needs a number of seconds}; shift ;;
        -h | --help) usage; exit ;;
        *) die "unknown option $1; --help lists them" ;;
    esac
    shift
done

# ---- what is here -------------------------------------------------------------------------------------------------------

loader_knows() { ldconfig -p 2>/dev/null | grep -F "$1 " >/dev/null; } # not -q: ldconfig would meet a closed pipe

# Unpacks .gpu-pack, if there is one, and puts it behind what the machine itself has.
use_pack() {
    local tree=$root/build/gpu-pack triplet deb name file
    [ -d "$pack" ] || return 0
    have dpkg || { missing+=("dpkg (to unpack .gpu-pack)"); return 0; }
    triplet=$(cc -dumpmachine)
    if [ ! -e "$tree/complete" ]; then
        mkdir -p "$tree/needed"
        for deb in "$pack"/*.deb; do dpkg -x "$deb" "$tree"; done
        # An absolute link would lead out of the folder.
        ln -sf "$(find "$tree" -name 'libz.so.1.*' -print -quit)" "$tree/usr/lib/$triplet/libz.so"
        ln -sf "$(find "$tree" -name 'libjansson.so.4.*' -print -quit)" "$tree/usr/lib/$triplet/libjansson.so"
        for name in libvulkan.so.1 libOpenCL.so.1 libopenblas.so.0 libgfortran.so.5 libquadmath.so.0 libcmocka.so.0 libjansson.so.4; do
            if ! loader_knows $name; then
                file=$(find "$tree/usr" -name $name -print -quit)
                [ -z "$file" ] || ln -sf "$(realpath "$file")" "$tree/needed/$name"
            fi
        done
        touch "$tree/complete"
    fi
    export PATH=$PATH:$tree/usr/bin C_INCLUDE_PATH=${C_INCLUDE_PATH:+$C_INCLUDE_PATH:}$tree/usr/include
    export CMAKE_PREFIX_PATH=$tree/usr CMAKE_LIBRARY_PATH=$tree/usr/lib/$triplet
    export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$tree/needed
}

finds_library() { loader_knows "$1" || [ -e "$root/build/gpu-pack/needed/$1" ]; }
finds_header() { echo "#include <$1>" | cc -E - >/dev/null 2>&1; }

look_around() {
    have ninja || missing+=("ninja (make is used)")
    have glslangValidator || have glslang || missing+=("glslangValidator (Vulkan devices can run nothing)")
    finds_header cmocka.h || { missing+=("cmocka (no tests)"); options+=(-DTESSERA_TESTS=OFF); tests=false; }
    finds_library libvulkan.so.1 || missing+=("libvulkan.so.1 (no Vulkan devices)")
    finds_library libOpenCL.so.1 || missing+=("libOpenCL.so.1 (no OpenCL devices)")
    finds_library libopenblas.so.0 || missing+=("libopenblas.so.0 (slow products on the cpu device)")
    local header
    for header in zlib.h jansson.h vulkan/vulkan.h CL/cl.h; do
        finds_header $header || missing+=("$header (the build needs it)")
    done
}

# Containers mount a vendor's driver where the loaders do not look.
find_vendor_drivers() {
    local file vendors=$root/build/opencl-vendors
    if [ -z "${VK_DRIVER_FILES:-}" ] && ! compgen -G '/etc/vulkan/icd.d/nvidia*' >/dev/null &&
        ! compgen -G '/usr/share/vulkan/icd.d/nvidia*' >/dev/null; then
        file=$(find /usr/local/nvidia /opt -name 'nvidia_icd*.json' 2>/dev/null | head -n 1) || true
        if [ -n "$file" ]; then export VK_DRIVER_FILES=$file; fi
    fi
    if [ -z "${OCL_ICD_VENDORS:-}" ] && ! compgen -G '/etc/OpenCL/vendors/*.icd' >/dev/null; then
        file=$({ ldconfig -p | sed -n 's/.*libnvidia-opencl.so.1.* => //p'
            find /usr/local/nvidia -name libnvidia-opencl.so.1; } 2>/dev/null | head -n 1) || true
        if [ -n "$file" ]; then
            mkdir -p "$vendors" && echo "$file" >"$vendors/nvidia.icd"
            export OCL_ICD_VENDORS=$vendors
        fi
    fi
}

gpu_name() {
    local name=
    if have nvidia-smi; then name=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1) || true; fi
    if [ -z "$name" ] && have lspci; then name=$(lspci | sed -n 's/.*\(VGA\|3D\|Display\)[^:]*: //p' | head -n 1) || true; fi
    echo "${name:-no GPU}"
}

# ---- phases -------------------------------------------------------------------------------------------------------------

names=() outcomes=() seconds=()

# phase NAME COMMAND...: its output goes to the log, its outcome to the table.
phase() {
    local name=$1 start=$SECONDS status=0
    shift
    say "$name"
    printf '\n== %s: %s\n' "$name" "$*" >>"$log"
    timeout --kill-after=10 "$limit" "$@" >>"$log" 2>&1 </dev/null || status=$?
    names+=("$name") seconds+=($((SECONDS - start)))
    case $status in
        0) outcomes+=(ok) ;;
        124 | 137) outcomes+=("FAILED: longer than $limit s") ;;
        *) outcomes+=("FAILED: exit status $status"); tail -n 15 "$log" >&2 ;;
    esac
    return $status
}

leave_out() { names+=("$1") seconds+=(0) outcomes+=("left out: $2"); }

json_text() { sed 's/[\\"]/\\&/g; s/\t/ /g' <<<"$1"; }

write_summary() {
    local i devices separator=''
    devices=$("$tessera" devices --json 2>/dev/null) || devices=null
    {
        printf '{"gpu": "%s", "date": "%s", "commit": "%s",\n' "$(json_text "$gpu")" "$(date -u +%FT%TZ)" \
            "$(git rev-parse --short HEAD 2>/dev/null || echo unknown)"
        printf ' "missing": ['
        for i in "${missing[@]}"; do printf '%s"%s"' "$separator" "$(json_text "$i")"; separator=', '; done
        printf '],\n "devices": %s,\n "phases": [\n' "$devices"
        for i in "${!names[@]}"; do
            printf '  {"name": "%s", "seconds": %d, "outcome": "%s"}%s\n' "$(json_text "${names[i]}")" "${seconds[i]}" \
                "$(json_text "${outcomes[i]}")" "$([ "$i" -lt $((${#names[@]} - 1)) ] && echo ,)"
        done
        printf ' ]}\n'
    } >"$results/check.json"
}

missing=() options=() tests=true
gpu=$(gpu_name)
slug=$(tr '[:upper:]' '[:lower:]' <<<"$gpu" | tr -cs 'a-z0-9\n' - | sed 's/^-*//; s/-*$//')
results=${OUT:-bench/results/$slug-$(date -u +%F)}
mkdir -p "$results" build
log=$results/log.txt
: >"$log"

for command in cc cmake; do have $command || die "$command was not found; nothing can be built without it"; done
use_pack
look_around
find_vendor_drivers
use_caches
for item in "${missing[@]}"; do say "missing: $item"; done
have nvidia-smi && nvidia-smi >>"$log" 2>&1

# The build, and what needs it.
tessera=build/release/bin/tessera
export -f configure build have
export root jobs limit
if phase configure bash -c 'configure release release "$@"' configure "${options[@]}" && phase build bash -c 'build release'; then
    built=true
else
    built=false
fi

phase devices "$tessera" devices || true

if $tests && $built; then
    phase tests ctest --test-dir build/release --output-on-failure --no-tests=error -j 4 || true
else
    leave_out tests "$($tests && echo 'the build failed' || echo 'cmocka is missing')"
fi

for model in cnn mlp; do
    phase "train $model" "$tessera" train mnist --model $model --device all --budget 60 \
        --json "$results/train_$model.json" || true
done

for name in bench_train bench_gemm bench_conv; do
    phase "$name" "build/release/bin/$name" --device all --json "$results/$name.json" || true
done

write_summary

for name in "train cnn" bench_train bench_gemm bench_conv; do
    awk -v begin="== $name:" 'index($0, "== ") == 1 { on = index($0, begin) == 1 } on' "$log"
done
printf '\n%s\n' "$gpu"
failed=0
for i in "${!names[@]}"; do
    printf '  %-24s %5d s  %s\n' "${names[i]}" "${seconds[i]}" "${outcomes[i]}"
    [[ ${outcomes[i]} != FAILED* ]] || failed=1
done
echo "results: $results"
exit $failed
