#!/usr/bin/env bash
# Usage: tests/cli/resume_test.sh TESSERA KILLS
#
# A training is killed at random moments, also while it saves, and goes on each time from its file: it must end in bitwise the
# weights of one that was never disturbed. Then the states that --resume must not take, and the words it must not take.
set -u
tessera=$1 kills=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
bad() { echo "FAILED: $*"; failed=1; }
export TESSERA_DEVICE=cpu

# 64 images, so that a run starts in a moment; a state after every step, so that many kills meet one being written.
items() { gzip -dc "$1" 2>/dev/null | head -c $(($2 + $3 * $4)) | tail -c +9; }
mkdir "$work/data"
for part in train t10k; do
    { printf '\0\0\10\3\0\0\0\100'; items "$TESSERA_SOURCE_DIR/data/mnist/$part-images-idx3-ubyte.gz" 16 64 784; } >"$work/data/$part-images-idx3-ubyte"
    { printf '\0\0\10\1\0\0\0\100'; items "$TESSERA_SOURCE_DIR/data/mnist/$part-labels-idx1-ubyte.gz" 8 64 1; } >"$work/data/$part-labels-idx1-ubyte"
done
command=("$tessera" train mnist --data "$work/data" --model cnn --batch 7 --steps 40)
train() { "${command[@]}" "$@"; }
hash_of() { sed -n 's/.*"weights_sha256": "\([0-9a-f]*\)".*/\1/p' "$1" | tail -n 1; }

train --json "$work/whole.json" >"$work/out" 2>&1 || { cat "$work/out"; bad "the undisturbed training"; }
wanted=$(hash_of "$work/whole.json")
[ -n "$wanted" ] || bad "no hash of the undisturbed training"

# How long a run takes that saves as often, here and now: the kills fall anywhere in it.
began=$(date +%s%N)
train --save "$work/timed" --save-every 1 >"$work/out" 2>&1 || bad "saving after each step"
took=$((($(date +%s%N) - began) / 1000000))
RANDOM=17
met=0 resumed=0 ended=0
resume=(--save "$work/state" --save-every 1 --resume "$work/state" --json "$work/resumed.json")
check_end() {
    [ "$(hash_of "$work/resumed.json")" = "$wanted" ] || bad "after $met kills: other weights"
    rm -f "$work/state" "$work/state.1" "$work/resumed.json"
    ended=$((ended + 1))
}
for ((i = 0; i < 3 * kills && met < kills; i++)); do
    "${command[@]}" "${resume[@]}" >"$work/out" 2>"$work/err" & # itself, no shell
    sleep "$(awk -v ms=$((took * (RANDOM % 1000) / 1000)) 'BEGIN { print ms / 1000 }')"
    kill -KILL $! 2>/dev/null
    wait $! 2>/dev/null
    status=$?
    rm -f "$work"/.tessera-*.tmp
    if grep -q "going on after" "$work/err"; then resumed=$((resumed + 1)); fi
    case $status in
        0) check_end ;;
        137) met=$((met + 1)) ;;
        *) bad "a run ended with status $status: $(cat "$work/err")" ;;
    esac
done
train "${resume[@]}" >"$work/out" 2>&1 || { cat "$work/out"; bad "the last run"; }
check_end
[ "$met" -eq "$kills" ] || bad "only $met of $kills kills met a running training"
[ "$resumed" -ge $((kills / 4)) ] || bad "only $resumed runs went on from a state"
echo "$met kills met a running training; $resumed runs went on from a state; $ended ended, in the same weights"

# One damaged: the one before it, with a word on that.
train --save "$work/state" --steps 20 --save-every 10 >"$work/out" 2>&1 || bad "saving"
printf 'x' | dd of="$work/state" bs=1 seek=5000 conv=notrunc status=none
train --resume "$work/state" --json "$work/resumed.json" >"$work/out" 2>"$work/err" || { cat "$work/err"; bad "the older state"; }
grep -q "going on from $work/state.1" "$work/err" || bad "no word on the older state: $(cat "$work/err")"
[ "$(hash_of "$work/resumed.json")" = "$wanted" ] || bad "from the older state: other weights"
train --resume "$work/state" --keep 1 >"$work/out" 2>&1 && bad "a damaged state was taken"
grep -q "damaged" "$work/out" || bad "no word on the damage"

# What is not of this training, and words that do not go together.
train --resume "$work/state.1" --seed 3 >"$work/out" 2>&1 && bad "a state of another seed was taken"
grep -q "another training" "$work/out" || bad "no word on the other training"
says() { "$tessera" train mnist --data "$work/data" --steps 2 "${@:2}" >"$work/out" 2>&1 && bad "$* was taken"; grep -qe "$1" "$work/out" || bad "$*: $(cat "$work/out")"; }
says "one device" --save "$work/x" --device cpu,cpu
says "one device" --resume "$work/x" --lockstep 2
says "tells where" --save-every 2
says "cannot be written" --save /nonexistent/state
says "folder" --save "$work"
exit $failed
