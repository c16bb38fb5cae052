#!/bin/sh
# simulated.sh PROGRAM: PROGRAM (test_every_kernel) in Oclgrind, which interprets kernels and watches what they do to memory: races, bounds,
# values that nobody wrote. Any report is a failure. Exit status 77 where Oclgrind is not installed.
driver=${OCLGRIND_ICD:-/usr/lib/oclgrind/liboclgrind-rt-icd.so}
if [ ! -e "$driver" ]; then
    echo "skipped: $driver is not there (Debian, Ubuntu: apt install oclgrind)"
    exit 77
fi
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/vendors" && echo "$driver" >"$folder/vendors/oclgrind.icd"
export TEST_DEVICES=opencl:0 OCL_ICD_VENDORS="$folder/vendors" TESSERA_CACHE_DIR="$folder/cache" VK_DRIVER_FILES=/dev/null
export OCLGRIND_DATA_RACES=1 OCLGRIND_UNINITIALIZED=1 OCLGRIND_CHECK_API=1 OCLGRIND_LOG="$folder/log"
# Its interpreter (21.10) lacks instructions that clang's optimizer makes (llvm.fshl), and takes a call of mad for a branch: then vectors
# whose last lanes lie behind a row (kernels/product_rows.k), are computed with and not stored, would be reports. Storing one still is.
export OCLGRIND_BUILD_OPTIONS='-cl-opt-disable -Dmad(a,b,c)=((a)*(b)+(c))'

# What no kernel may do, done on purpose, must be seen: a race, a place outside, a value that nobody wrote.
"$1" fault || exit 1
for report in 'data race' 'Invalid' 'Uninitialized'; do
    grep -q "$report" "$folder/log" && continue
    echo "Oclgrind says nothing of '$report' where there is one; it said:"
    cat "$folder/log"
    exit 1
done
: >"$folder/log"

"$1"
status=$?
if [ -s "$folder/log" ]; then
    head -n 200 "$folder/log"
    exit 1
fi
exit $status
