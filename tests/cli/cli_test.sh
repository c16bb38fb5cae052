#!/bin/sh
# Tests of the `tessera` command: cli_test.sh PART TESSERA JSON_CHECK, part usage, devices, compare, train, gpt, views, diff, bench or terminal.
set -u
part=$1 tessera=$2 json_check=$3
work=$(mktemp -d "${TMPDIR:-/tmp}/tessera-cli-XXXXXX")
trap 'rm -rf "$work"' EXIT
failures=0 checks=0
unset TESSERA_DEVICE TESSERA_DATA_DIR NO_COLOR TESSERA_LOG

bad() {
    failures=$((failures + 1))
    echo "FAILED: $*"
    sed 's/^/  out| /' "$work/out"
    sed 's/^/  err| /' "$work/err"
}

# run STATUS ARGUMENTS…: runs the command and checks its exit status; output is in $work/out and $work/err.
run() {
    expected=$1
    shift
    checks=$((checks + 1))
    what="tessera $*"
    "$tessera" "$@" >"$work/out" 2>"$work/err"
    got=$?
    [ $got -eq "$expected" ] || bad "$what: exit status $got, not $expected"
}

says() { # says TEXT: on standard output
    grep -qF -e "$1" "$work/out" || bad "$what: standard output lacks '$1'"
}

complains() { # complains TEXT: on standard error
    grep -qF -e "$1" "$work/err" || bad "$what: standard error lacks '$1'"
}

silent() { # nothing on standard output
    [ ! -s "$work/out" ] || bad "$what: standard output should be empty"
}

# is PATH VALUE [FILE]: what the JSON holds there.
is() {
    value=$("$json_check" "${3:-$work/run.json}" "$1" 2>>"$work/err")
    [ "$value" = "$2" ] || bad "$what: $1 is '$value', not '$2'"
}

value() {
    "$json_check" "$work/run.json" "$1" 2>>"$work/err"
}

usage() {
    run 2
    silent
    complains "Usage: tessera COMMAND"
    run 0 --help
    says "devices"
    says "train"
    says "Exit status"
    run 0 -h
    run 0 help
    run 0 --version
    grep -qE '^tessera [0-9]+\.[0-9]+\.[0-9]+$' "$work/out" || bad "--version: no version"
    for c in bench devices compare diff train; do
        run 0 help $c
        says "Usage: tessera $c"
        cp "$work/out" "$work/help"
        run 0 $c --help
        cmp -s "$work/help" "$work/out" || bad "help $c and $c --help differ"
        run 0 $c -h
    done
    run 0 train mnist --epochs x --help # help goes first
    # No line of any help is wider than a terminal of 100 columns.
    awk 'length($0) > 100 { exit 1 }' "$work/out" || bad "help: a line is too long"

    run 2 trian mnist
    complains "did you mean 'train'?"
    silent
    run 2 xyzzy
    complains "there is no command 'xyzzy'"
    run 2 help trin
    complains "did you mean 'train'?"
    run 2 --verbose
    run 2 train
    complains "tessera train mnist"
    run 2 train mnits
    complains "did you mean mnist"
    run 2 train mnist again
    complains "'again' is a second"
    run 2 devices all
    complains "takes no argument such as 'all'"
    run 2 devices --json=x
    complains "takes no value"
    run 2 devices --jsn
    complains "did you mean --json?"
    run 2 train mnist --epoch 1
    complains "did you mean --epochs?"
    run 2 train mnist --xyzzy
    complains "has no option --xyzzy"
    run 2 train mnist -e 1
    complains "has no option -e"
    run 2 train mnist --epochs
    complains "needs a value: --epochs N"
    run 2 train mnist --epochs 1 --epochs 0 # the last one counts
    complains "--epochs 0"
    for v in 0 -1 x 1.5 "" 99999999999999999999 1x; do
        run 2 train mnist --epochs "$v"
        complains "--epochs $v"
        silent
    done
    for v in 0 60001; do
        run 2 train mnist --batch $v
        complains "between 1 and 60000"
    done
    for v in 0 -1 nan inf x "" 1e999; do
        run 2 train mnist --lr "$v"
        complains "--lr $v"
    done
    for v in -1 18446744073709551616 x 1.5 ""; do
        run 2 train mnist --seed "$v"
        complains "--seed $v: it must be a whole number from 0 to 2^64 - 1"
    done
    run 2 train mnist --model cmn
    complains "did you mean cnn?"
    run 2 train mnist --model transformer
    complains "one of cnn, mlp"
    run 2 train mnist --optimizer adma
    complains "did you mean adam"
    run 2 train mnist --data ""
    complains "--data is empty"

    if [ -c /dev/full ]; then
        checks=$((checks + 1))
        "$tessera" --help >/dev/full 2>"$work/err"
        [ $? -eq 2 ] || bad "--help to a full disk: not status 2"
        complains "cannot write to standard output"
    else
        echo "skipped: a full disk (there is no /dev/full)"
    fi
}

devices() {
    run 0 devices
    grep -qE '^cpu:0 .* f32 ' "$work/out" || bad "devices: no row of cpu:0"
    says "TESSERA_CACHE_DIR"
    says "TESSERA_NUM_THREADS"
    grep -q "$(printf '\033')" "$work/out" && bad "devices: colours in a pipe"
    grep -qE ' +$' "$work/out" && bad "devices: spaces at a line's end"

    run 0 devices --json
    cp "$work/out" "$work/run.json"
    is 0.id '"cpu:0"'
    is 0.backend '"cpu"'
    is 0.matrix_units.# 0
    is 0.dtypes.0 '"f32"'
    is 0.usable true
    for field in name vendor driver uuid software memory_bytes notes; do
        [ -n "$(value 0.$field)" ] || bad "devices --json: no $field"
    done
    [ "$(value 0.memory_bytes)" -gt 1000000 ] || bad "devices --json: memory_bytes"

    # No driver at all: the processor is there, and each other backend tells what it lacks.
    OCL_ICD_VENDORS=/nonexistent VK_DRIVER_FILES=/nonexistent VK_ICD_FILENAMES=/nonexistent CUDA_VISIBLE_DEVICES= \
        "$tessera" devices >"$work/out" 2>"$work/err"
    [ $? -eq 0 ] || bad "devices without drivers: status"
    what="devices without drivers"
    says "Without a device"
    grep -qE '^  opencl ' "$work/out" || bad "$what: nothing on opencl"
    grep -qE '^  vulkan ' "$work/out" || bad "$what: nothing on vulkan"
    grep -qE '^(opencl|vulkan):' "$work/out" && bad "$what: it lists one"
    says "/nonexistent" # the variables in force

    # A cache that cannot be written is told, and no reason to fail.
    TESSERA_CACHE_DIR=/proc/nowhere "$tessera" devices >"$work/out" 2>"$work/err" || bad "devices without a cache: status"
    what="devices without a cache"
    grep -A3 "Cache of compiled" "$work/out" | grep -q "cannot" || bad "$what: no word on why"

    run 3 train mnist --steps 1 --device cpuu
    complains "cpuu"
    complains "cpu:0"
    silent
    run 3 train mnist --steps 1 --device cpu:7
    complains "cpu:7"
    run 3 train mnist --steps 1 --device cpu,nonsense
    complains "nonsense"
    silent # refused before anything is trained
    run 2 train mnist --steps 1 --device cpu,,cpu
    complains "a name is missing"
    run 2 train mnist --steps 1 --device cpu,
    TESSERA_DEVICE=gpu "$tessera" train mnist --steps 1 >"$work/out" 2>"$work/err"
    [ $? -eq 3 ] || bad "TESSERA_DEVICE=gpu: not status 3"
    OCL_ICD_VENDORS=/nonexistent "$tessera" train mnist --steps 1 --device opencl >"$work/out" 2>"$work/err"
    [ $? -eq 3 ] || bad "opencl without a driver: not status 3"
}

# Every operator on every device, in the dtypes that most kernels have; what a wrong expectation and wrong arguments give.
compare() {
    # A driver that is known to end loops early is rightly found to fail; it is no fault of the library's.
    list="" i=0
    run 0 devices --json
    cp "$work/out" "$work/run.json"
    while [ $i -lt "$(value \#)" ]; do
        case $(value $i.notes) in
        *"end loops after"*) echo "skipped: $(value $i.id): $(value $i.notes)" ;;
        *) list=$list${list:+,}$(value $i.id | tr -d '"') ;;
        esac
        i=$((i + 1))
    done
    run 0 compare --devices "$list" --dtype f32,i32 --json "$work/run.json" --junit "$work/run.xml" --html "$work/run.html"
    grep -qE '^[0-9]+ checks of [0-9]+ operators in .* 0 failed, ' "$work/out" || bad "$what: no summary"
    grep -E '^[0-9]+ checks' "$work/out"
    says "pointwise"
    is summary.fail 0
    is summary.without_row.# 0
    [ "$(value summary.operators)" -ge 150 ] || bad "$what: too few operators"
    [ "$(value summary.ok)" -ge 6000 ] || bad "$what: too few checks"
    [ "$(value results.#)" -eq "$(value summary.checks)" ] || bad "$what: results and checks differ"
    for field in op dtype sample number pass device max_ulp max_error bound ratio held gap gap_ulp status reason; do
        [ -n "$(value results.0.$field)" ] || bad "$what: no $field"
    done
    is results.0.status '"ok"'
    is results.0.pass '"forward"'
    is results.0.gap null # the first device has none to compare with
    is devices.0.id '"cpu:0"'
    grep -q "<testsuite name=\"cpu:0\" tests=\"[0-9]*\" failures=\"0\"" "$work/run.xml" || bad "$what: no suite of cpu:0"
    [ "$(grep -c '<testcase' "$work/run.xml")" -eq "$(value summary.checks)" ] || bad "$what: JUnit lacks cases"
    grep -q '"id":"cpu:0"' "$work/run.html" || bad "$what: the page lacks the data"
    grep -qE '(src|href)="?https?:' "$work/run.html" && bad "$what: the page is not self-contained"

    # The same numbers again, from the line that names them; other numbers from another seed.
    run 0 compare --devices cpu --ops '^exp$' --dtype f32 --sample 0 --json "$work/a.json"
    run 0 compare --devices cpu:0 --ops='^exp$' --dtype=f32 --sample=0 --json "$work/b.json"
    run 0 compare --devices cpu:0 --ops '^exp$' --dtype f32 --sample 0 --seed 1 --json "$work/c.json"
    is summary.checks 2 "$work/a.json"
    [ "$("$json_check" "$work/a.json" results.0.max_error)" = "$("$json_check" "$work/b.json" results.0.max_error)" ] ||
        bad "$what: not the same again"
    [ "$("$json_check" "$work/a.json" results.0.max_error)" != "$("$json_check" "$work/c.json" results.0.max_error)" ] ||
        bad "$what: the same from another seed"

    run 0 compare --devices cpu --ops '^relu$' --dtype f32 --sample 2 --json -
    cp "$work/out" "$work/run.json"
    is results.0.op '"relu"'
    is results.0.number 2
    complains "2 checks of 1 operators"

    # An expectation that is wrong is found, with the line that repeats it.
    TESSERA_COMPARE_FAULT=relu
    export TESSERA_COMPARE_FAULT
    run 1 compare --devices cpu --ops '^(relu|neg)$' --dtype f32 --json "$work/run.json" --junit "$work/run.xml"
    says "replay: tessera compare --devices cpu:0 --ops '^relu\$' --dtype f32 --sample 0 --seed 0"
    grep -q "neg f32" "$work/out" && bad "$what: neg failed too"
    grep -q "<failure message=\"element" "$work/run.xml" || bad "$what: no failure in JUnit"
    [ "$(value summary.fail)" -ge 12 ] || bad "$what: too few failures"
    run 1 compare --devices cpu:0 --ops '^relu$' --dtype f32 --sample 0 --seed 0
    run 0 compare --devices cpu:0 --ops '^neg$' --dtype f32 --sample 0 --seed 0
    unset TESSERA_COMPARE_FAULT
    run 0 compare --devices cpu:0 --ops '^relu$' --dtype f32 --sample 0 --seed 0

    run 2 compare --ops '('
    complains "--ops (:"
    silent
    run 2 compare --ops '^nothing$' --devices cpu
    complains "no operator, dtype and sample is left"
    run 2 compare --ops '^relu$' --dtype i64 --sample 60 --devices cpu
    complains "no operator, dtype and sample is left"
    for v in f33 f32, ""; do
        run 2 compare --dtype "$v"
        complains "--dtype"
    done
    for v in -1 64 x; do
        run 2 compare --sample $v
        complains "--sample $v"
    done
    run 2 compare --seed -1
    run 2 compare relu
    complains "takes no argument such as 'relu'"
    run 3 compare --devices cpuu
    complains "cpu:0"
    run 2 compare --devices cpu,,cpu
    complains "--devices cpu,,cpu: a name is missing"
    for o in json junit html; do
        run 2 compare --devices cpu --$o "$work/nowhere/x"
        complains "--$o $work/nowhere/x"
        silent
    done
    run 2 compare --json - --html -
    complains "only one of"
}

# Ends the command after two seconds; sh starts background jobs deaf to SIGINT, which the command must hear all the same.
interrupt() {
    what="Ctrl-C"
    checks=$((checks + 1))
    "$tessera" train mnist --model mlp --epochs 1000 --json "$work/run.json" >"$work/out" 2>"$work/err" &
    pid=$!
    tries=0
    until grep -q "on MNIST" "$work/out" || [ $tries -ge 100 ]; do
        sleep 0.2
        tries=$((tries + 1))
    done
    sleep 2
    kill -INT $pid
    wait $pid
    got=$?
    [ $got -eq 130 ] || bad "Ctrl-C: exit status $got, not 130"
    is result '"interrupted"'
    [ "$(value steps)" = "$(value losses.#)" ] || bad "Ctrl-C: steps and losses differ"
    is test_accuracy null
}

train() {
    short="train mnist --model mlp --steps 12"
    run 0 $short --json "$work/run.json"
    says "mlp on MNIST: 60000 images"
    says "test accuracy"
    [ -s "$work/err" ] && bad "train: noise on standard error"
    is device '"cpu:0"'
    is backend '"cpu"'
    is model '"mlp"'
    is result '"done"'
    is error null
    is steps 12
    is losses.# 12
    is test_images 10000
    is driver_allocs_after_warmup 0
    is programs_built_after_warmup 0
    is host_syncs_per_step 0.0
    for field in seed lr samples_per_second peak_bytes reserved_bytes loader_wait_fraction test_loss weights_sha256; do
        [ -n "$(value $field)" ] || bad "train --json: no $field"
    done
    [ "$(value peak_bytes)" -gt 2000000 ] || bad "train: peak_bytes is less than the weights"
    value weights_sha256 | grep -qE '^"[0-9a-f]{64}"$' || bad "train: weights_sha256 is no SHA-256"
    first=$(value weights_sha256) initial=$(value initial_weights_sha256)
    [ "$first" != "$initial" ] || bad "train: the weights did not change"
    # At first all ten classes look alike: the loss is near log 10 = 2.303. It falls from there.
    awk -v a="$(value losses.0)" -v z="$(value losses.11)" 'BEGIN { exit !(a > 2.1 && a < 2.5 && z < a) }' ||
        bad "train: losses from $(value losses.0) to $(value losses.11)"

    # The same seed gives the same bits, another one others; --json - leaves standard output to the JSON.
    run 0 $short --seed 0 --json -
    cp "$work/out" "$work/run.json"
    is weights_sha256 "$first"
    complains "test accuracy"
    run 0 $short --seed 1 --json "$work/run.json"
    [ "$(value initial_weights_sha256)" != "$initial" ] || bad "another seed, the same weights"

    # Two devices: here the same one twice, which must agree in every bit.
    run 0 train mnist --steps 4 --device cpu,cpu:0 --optimizer sgd --json "$work/run.json"
    says "reference"
    says "agrees"
    is runs.# 2
    is runs.1.agrees true
    is runs.1.loss_gap_first 0.0
    is runs.1.weights_sha256 "$(value runs.0.weights_sha256)"
    run 0 $short --optimizer adamw --lr 0.01 --batch 50
    run 0 train mnist --model mlp --steps 1 --batch 60000 --json "$work/run.json"
    is losses.# 1

    # Lock-step: every operator within its bound, and a device like the first in every bit.
    for model in cnn mlp; do
        run 0 train mnist --model $model --lockstep 2 --batch 16 --device cpu,cpu --json "$work/run.json"
        says "within bounds"
        is lockstep.# 2
        is steps_planned 2
        for device in 0 1; do
            is lockstep.$device.steps 2
            is lockstep.$device.same_bits true
            is lockstep.$device.agrees true
            is lockstep.$device.gradient_gap 0.0
            for ratio in loss forward input_gradient weight_gradient; do
                awk -v r="$(value lockstep.$device.${ratio}_ratio)" 'BEGIN { exit !(r > 0 && r <= 1) }' ||
                    bad "$what: ${ratio}_ratio is $(value lockstep.$device.${ratio}_ratio)"
            done
        done
    done

    # Less time than the steps need.
    run 0 train mnist --model mlp --epochs 1000 --budget 1 --json "$work/run.json"
    is result '"shortened"'
    [ "$(value steps)" -lt "$(value steps_planned)" ] || bad "budget: all steps were done"
    awk -v s="$(value train_seconds)" 'BEGIN { exit !(s < 4) }' || bad "budget of 1 s: $(value train_seconds) s"

    # Divergence is a result, not a failure; JSON has no NaN.
    run 0 train mnist --model mlp --steps 8 --optimizer sgd --lr 1e6 --json "$work/run.json"

    # What cannot be written is found out before the work; what was there stays.
    run 2 $short --json "$work/no/such/folder/x.json"
    complains "cannot be written"
    silent
    run 2 $short --json "$work"
    complains "folder"
    silent
    echo keep >"$work/keep.json"
    run 3 $short --device nonsense --json "$work/keep.json"
    [ "$(cat "$work/keep.json")" = keep ] || bad "a failure changed the old file"
    [ -z "$(find "$work" -name 'keep.json.*')" ] || bad "a probe was left behind"

    # Data that are not there, or not what they should be.
    run 2 $short --data "$work/nowhere"
    complains "$work/nowhere"
    silent
    mkdir "$work/data"
    source=${TESSERA_SOURCE_DIR:-$(dirname "$0")/../..}/data/mnist
    cp "$source"/*.gz "$work/data"
    head -c 100000 "$source/train-images-idx3-ubyte.gz" >"$work/data/train-images-idx3-ubyte.gz"
    run 2 $short --data "$work/data"
    complains "train-images-idx3-ubyte.gz"
    complains "end too early"
    cp "$source/t10k-images-idx3-ubyte.gz" "$work/data/train-images-idx3-ubyte.gz"
    run 2 $short --data "$work/data"
    complains "10000 images"
    complains "60000 labels"
    TESSERA_DATA_DIR="$work" "$tessera" $short >"$work/out" 2>"$work/err"
    [ $? -eq 2 ] || bad "TESSERA_DATA_DIR without mnist: not status 2"

    interrupt
}

# A language model: trained, saved, gone on with, and text from it.
gpt() {
    head -c 30000 "${TESSERA_SOURCE_DIR:-$(dirname "$0")/../..}/data/text/tinyshakespeare.txt" >"$work/text"
    short="train gpt --data $work/text --context 16 --batch 8 --steps 30"
    run 0 $short --save "$work/state" --json "$work/run.json"
    says "gpt nano (0.098 million parameters) on text: 27000 tokens, context 16"
    says "tokens/s"
    says "test loss"
    is task '"gpt"'
    is schedule '"cosine"'
    is clip 1.0
    is warmup 3
    is test_accuracy null
    is test_tokens 2992
    is driver_allocs_after_warmup 0
    is host_syncs_per_step 0.0
    # 256 tokens look alike at first: log 256 = 5.55.
    awk -v a="$(value losses.0)" -v z="$(value losses.29)" 'BEGIN { exit !(a > 5.3 && a < 5.8 && z < a - 0.5) }' ||
        bad "$what: losses from $(value losses.0) to $(value losses.29)"
    all=$(value weights_sha256)

    # Text: the same for a seed, another for another, and the likeliest always the same.
    run 0 generate "$work/state" --length 50 --prompt "ROMEO:"
    says "ROMEO:"
    complains "50 tokens"
    [ "$(wc -c <"$work/out")" -eq 57 ] || bad "$what: $(wc -c <"$work/out") bytes, not 6 + 50 + 1"
    cp "$work/out" "$work/first"
    run 0 generate "$work/state" --length 50 --prompt "ROMEO:"
    cmp -s "$work/out" "$work/first" || bad "$what: another text from the same seed"
    run 0 generate "$work/state" --length 50 --prompt "ROMEO:" --seed 1
    cmp -s "$work/out" "$work/first" && bad "$what: the same text from another seed"
    run 0 generate "$work/state" --length 20 --temperature 0
    cp "$work/out" "$work/first"
    run 0 generate "$work/state" --length 20 --top-k 1 --seed 5
    cmp -s "$work/out" "$work/first" || bad "$what: the likeliest token is not the only one of one"

    # Interrupted half-way by its end: the same weights as in one go. (The rate falls towards step 30 in both.)
    run 0 $short --save "$work/parts" --save-every 10
    cp "$work/parts.1" "$work/half"
    run 0 $short --resume "$work/half" --json "$work/run.json"
    is weights_sha256 "$all"
    run 4 $short --resume "$work/half" --seed 3
    says "another training"

    # Looked at on the way, also by one that was interrupted: the same training, and the same tests.
    run 0 $short --dropout 0.1 --amp f16 --json "$work/run.json"
    is evaluations.# 0
    all=$(value weights_sha256) losses=$(value losses) tests=
    for way in "--save $work/looked --save-every 20" "--resume $work/looked.1"; do
        run 0 $short --dropout 0.1 --amp f16 --eval-every 7 $way --json "$work/run.json"
        complains "cpu:0: step 28: test loss "
        is weights_sha256 "$all"
        is losses "$losses"
        is evaluations.# 4
        is evaluations.1.step 14
        is evaluations.3.test_tokens 2992
        is evaluations.3.test_accuracy null
        is driver_allocs_after_warmup 0
        is host_syncs_per_step 0.0
        awk -v a="$(value evaluations.0.test_loss)" -v z="$(value evaluations.3.test_loss)" -v t="$(value test_loss)" 'BEGIN { exit !(z < a && t < z) }' ||
            bad "$what: tests $(value evaluations)"
        is evaluations "${tests:=$(value evaluations)}"
    done

    # Four batches of 2 are a step of one batch of 8 in all but their order of addition.
    run 0 $short --batch 2 --accumulate 4 --clip 0.5 --amp bf16 --dropout 0.1 --checkpoint-activations --json "$work/run.json"
    says "batch 4 x 2"
    is accumulate 4
    is losses.# 30

    # A vocabulary of its own, kept beside the model.
    run 0 $short --tokens bpe:300 --save "$work/bpe"
    [ -s "$work/bpe.tokens/vocab.json" ] && [ -s "$work/bpe.tokens/merges.txt" ] || bad "$what: no vocabulary was saved"
    run 0 generate "$work/bpe" --length 10 --prompt "The "
    says "The "
    run 0 $short --tokens "$work/bpe.tokens" --save "$work/again"
    run 0 generate "$work/again" --length 10
    run 0 generate "$work/again" --length 10 --tokens "$work/bpe.tokens"

    run 2 train gpt --model cnn
    complains "nano"
    run 2 train mnist --model nano
    complains "cnn"
    run 2 train mnist --tokens bytes
    complains "gpt"
    run 2 train gpt --tokens bpe:3 --data "$work/text"
    complains "257"
    run 2 train gpt --tokens "$work/nowhere"
    complains "vocab.json"
    run 2 train gpt --data "$work/nowhere"
    complains "nowhere"
    run 2 train gpt --data "$work/text" --context 20000
    complains "text"
    run 2 train gpt --lockstep 2
    complains "mnist"
    run 2 generate
    complains "MODEL"
    run 2 generate "$work/nowhere"
    complains "nowhere"
    run 2 generate "$work/text"
    complains "text"
    run 3 generate "$work/state" --device nonsense
    run 2 generate "$work/state" --device all,cpu
    run 2 generate "$work/bpe" --tokens bytes --prompt "é"
    complains "256"
}

# Whether $work/out holds a string, given to printf.
holds() {
    grep -qF -e "$(printf "$1")" "$work/out"
}

# Without escape sequences, and every character beyond ASCII as one x: not every awk counts characters.
plain() {
    LC_ALL=C sed -e "s/$(printf '\033')\[[0-9;]*[mK]//g" -e "s/[$(printf '\302')-$(printf '\364')][$(printf '\200')-$(printf '\277')]*/x/g"
}

# record DEVICE MODEL [KEY]: a recording of its first step in $work/trace; KEY: that kernel spoils its result.
record() {
    TESSERA_KERNEL_FAULT="$1 ${3:-}" run 0 train mnist --model "$2" --steps 1 --budget 1 --batch 32 --device "$1" --trace "$work/trace" --trace-tensors
}

# parts OP PHASE: the recording and the processor's part there.
parts() {
    run 1 diff "$work/cpu.trace" "$work/trace" --json "$work/run.json"
    says "They part at"
    says "element "
    is agree false
    is first.kind '"values"'
    is first.op "\"$1\""
    is first.phase "\"$2\""
}

diff() {
    run 0 devices --json
    cp "$work/out" "$work/devices.json"
    for model in mlp cnn; do
        record cpu:0 $model
        mv "$work/trace" "$work/cpu.trace"
        mv "$work/trace.0.safetensors" "$work/cpu.trace.0.safetensors"
        for device in opencl:0 vulkan:0; do
            grep -q "\"$device\"" "$work/devices.json" || { echo "skipped: there is no $device"; continue; }
            record $device $model
            run 0 diff "$work/cpu.trace" "$work/trace" --json "$work/run.json"
            says "They agree"
            is agree true
            is first null
            is unjudged 0
            [ "$(value judged)" -ge 36 ] || bad "$what: too few results"
            # Drivers order sums differently, so that the bounds have something to do.
            [ "$(value nearest.distance)" != 0.0 ] || bad "$what: the same bits everywhere"
            case $device,$model in
            opencl:0,mlp)
                record $device mlp unary/relu/f32
                parts relu forward
                record $device mlp unary_grad/relu/f32
                parts relu backward
                is recomputed.0.wrong false
                is recomputed.1.wrong true
                holds_between recomputed.1.value 1.0019 1.002
                says "this one is wrong"
                ;;
            vulkan:0,mlp)
                record $device mlp cross_entropy_grad/f32/i64
                parts cross_entropy backward
                is recomputed.0.wrong false
                is recomputed.1.wrong true
                ;;
            opencl:0,cnn)
                record $device cnn max_pool/f32
                parts max_pool2d forward
                ;;
            esac
        done
    done

    # Other steps, whole tensors, another seed.
    run 0 train mnist --model mlp --steps 3 --budget 1 --batch 8 --trace "$work/a" --trace-steps 0,2 --trace-tensors
    [ -s "$work/a.0.safetensors" ] && [ -s "$work/a.2.safetensors" ] && [ ! -e "$work/a.1.safetensors" ] || bad "$what: whole tensors"
    run 0 diff "$work/a" "$work/a"
    says "were not judged"
    run 0 train mnist --model mlp --steps 1 --budget 1 --batch 8 --seed 1 --trace "$work/b"
    run 1 diff "$work/a" "$work/b" --json -
    cp "$work/out" "$work/run.json"
    is first.kind '"start"'
    is first.op '"reshape"'
    complains "They part at"
    run 1 diff "$work/a" "$work/cpu.trace"
    run 2 diff "$work/a"
    complains "needs 2 files"
    run 2 diff "$work/a" "$work/a" "$work/a"
    complains "one more"
    run 2 diff "$work/a" "$work/nowhere"
    complains "nowhere"
    run 0 train mnist --model mlp --steps 1 --budget 1 --batch 8 --trace "$work/b" --trace-steps 7
    run 2 diff "$work/a" "$work/b"
    complains "holds no step"
    head -c 5000 "$work/a" >"$work/b"
    run 2 diff "$work/a" "$work/b"
    complains "$work/b"
    run 2 train mnist --trace "$work/no/such/folder/x"
    complains "--trace"
    run 2 train mnist --trace "$work/x" --trace-steps 3-1
    complains "list of"
    run 2 train mnist --trace-tensors
    complains "--trace FILE"
    run 2 train mnist --trace "$work/x" --lockstep 1
    complains "on one device"
}

# has TEXT FILE: also in a binary one.
has() {
    grep -qaF -e "$1" "$2" || bad "$what: $2 lacks '$1'"
}

# What shows how a training went: a profile, curves for TensorBoard, a drawing.
views() {
    small="train mnist --model mlp --budget 5 --batch 8 --steps 6 --device cpu"
    run 0 $small --workers 2 --profile "$work/profile" --profile-steps 2-3 --log-dir "$work/logs/new" --plot "$work/plot.svg"
    is otherData.dropped_events 0 "$work/profile"
    steps=$(grep -c '"name": "step"' "$work/profile")
    [ "$steps" = 2 ] || bad "$what: $steps steps in the profile, not 2"
    for span in '"load"' '"forward"' '"relu"' '"linear backward"' '"optimizer"' '"compute queue"'; do
        has "\"name\": $span" "$work/profile"
    done
    [ "$(ls "$work/logs/new" | grep -c '^events.out.tfevents.')" = 1 ] || bad "$what: not one file of events"
    for tag in brain.Event:2 train/loss train/learning_rate train/images_per_second memory/reserved_bytes test/loss test/accuracy; do
        has "$tag" "$work/logs/new/"events*
    done
    [ "$(grep -ao train/loss "$work/logs/new/"events* | wc -l)" = 6 ] || bad "$what: not 6 losses logged"
    has "mlp on MNIST: 60000 images" "$work/plot.svg"
    has "batch 8, 6 steps, adam 0.001, seed 0" "$work/plot.svg"
    has "% right" "$work/plot.svg"
    [ "$(tail -n 1 "$work/plot.svg")" = "</svg>" ] || bad "$what: the drawing has no end"

    # From the first step on: making the model too. The training is over before the steps are.
    run 0 $small --steps 2 --workers 2 --profile "$work/profile"
    has '"name": "allocate"' "$work/profile"
    has '"name": "make batch"' "$work/profile"
    has '"name": "argmax"' "$work/profile" # of the test

    # Tests on the way: in the log, in the drawing, a line each in a pipe. All images: the one behind the last step is the test at the end.
    run 0 $small --budget 1000 --eval-every 3 --log-dir "$work/logs/eval" --plot "$work/plot.svg" --json "$work/run.json"
    complains "cpu:0: step 3: test loss "
    complains ", accuracy 0."
    is evaluations.# 2
    is evaluations.0.test_images 10000
    is evaluations.1.test_loss "$(value test_loss)"
    is evaluations.1.test_accuracy "$(value test_accuracy)"
    [ "$(grep -ao evaluation/loss "$work/logs/eval/"events* | wc -l)" = 2 ] || bad "$what: not 2 tests on the way logged"
    has evaluation/accuracy "$work/logs/eval/"events*
    has "stroke-dasharray" "$work/plot.svg"

    # A loss scale comes back from the device; what goes on logs only its own steps.
    run 0 $small --steps 20 --amp f16 --log-dir "$work/scale" --save "$work/state"
    has train/loss_scale "$work/scale/"events*
    run 0 $small --steps 20 --amp f16 --log-dir "$work/scale" --resume "$work/state"
    [ "$(cat "$work/scale/"events* | grep -ao "train/loss[^_]" | wc -l)" = 20 ] || bad "$what: not 20 losses logged"

    # Who holds memory: mlp's 669706 parameters, and as much again for gradients and for each of Adam's moments.
    run 0 $small --memory "$work/memory.json" --json "$work/run.json"
    is device '"cpu:0"' "$work/memory.json"
    is recording.missed 0 "$work/memory.json"
    is recording.peak_bytes "$(value peak_bytes)" "$work/memory.json"
    holds "MEMORY AT THE PEAK" || bad "$what: no table of memory"
    is memory_at_peak.0.name '"optimizer state"'
    is memory_at_peak.1.name '"parameters"'
    is memory_at_peak.1.bytes 2679296
    run 0 $small --memory "$work/memory.svg"
    has "Memory of cpu:0 by owner" "$work/memory.svg"
    has "linear, backward" "$work/memory.svg"
    [ "$(tail -n 1 "$work/memory.svg")" = "</svg>" ] || bad "$what: the picture has no end"

    run 2 $small --profile "$work/no/such/folder/x"
    complains "--profile"
    run 2 $small --memory "$work/no/such/folder/x"
    complains "--memory"
    run 2 $small --profile "$work/x" --profile-steps 1,3
    complains "one range"
    run 2 $small --plot "$work"
    complains "it is a folder"
    run 2 $small --log-dir "$work/plot.svg/below"
    complains "--log-dir"
    run 2 $small --lockstep 1 --plot "$work/x"
    complains "not for --lockstep"
    run 2 $small --lockstep 1 --eval-every 1
    complains "not for --lockstep"
}

# holds PATH LOW HIGH: a number between them.
holds_between() {
    value "$1" | awk -v low="$2" -v high="$3" '!($1 + 0 >= low && $1 + 0 <= high) { exit 1 }' ||
        bad "$what: $1 is $(value "$1"), not between $2 and $3"
}

bench() {
    # Each operator has operands that it takes, and a derivative where the table says so.
    run 0 bench ops --device cpu --size 4096 --seconds 0.001 --dtype f32,i32 --json "$work/run.json"
    says "cpu:0: "
    says "OF ROOF"
    [ "$(value results.#)" -ge 250 ] || bad "$what: too few results"
    i=0
    while [ $i -lt "$(value results.#)" ]; do
        [ "$(value results.$i.error)" = null ] || bad "$what: $(value results.$i.what): $(value results.$i.error)"
        i=$((i + 9))
    done
    grep '"error": "' "$work/run.json" && bad "$what: an operator failed"

    # A copy's, a product's and an addition's figures from what they are.
    run 0 bench ops --device cpu --size 1048576 --seconds 0.01 --ops '^(add|matmul|reshape)$' --json "$work/run.json"
    is devices.0.id '"cpu:0"'
    is devices.0.error null
    holds_between devices.0.copy_gbytes_per_second 0.05 10000
    holds_between devices.0.product_gflops.f32 0.05 1000000
    is results.# 6
    is results.0.what '"add"'
    is results.0.route '"forward"'
    is results.0.operands '"[1048576] [1048576]"'
    is results.0.bytes 12582912.0
    is results.0.flops 1048576.0
    is results.1.route '"backward"'
    is results.1.bytes 12582912.0
    is results.2.what '"matmul"'
    is results.2.flops 134217728.0
    is results.2.bytes 4718592.0
    is results.3.flops 268435456.0
    is results.4.what '"reshape"'
    is results.4.bytes 0.0
    for i in 0 1 2 3; do
        holds_between results.$i.seconds 1e-9 100
        holds_between results.$i.ratio 1e-9 1e9
        [ "$(value results.$i.runs)" -ge 3 ] || bad "$what: too few runs"
    done

    run 0 bench gemm --device cpu --size 300000 --seconds 0.001 --json "$work/run.json"
    is results.# 8
    is results.0.what '"matmul"'
    is results.0.m 256
    is results.0.flops 33554432.0
    is results.4.k 1568
    is results.4.flops 25690112.0
    is results.4.operands '"[64, 1568] [1568, 128]'"'"'"'
    grep '"error": "' "$work/run.json" && bad "$what: a product failed"

    run 2 bench
    complains "tessera bench ops"
    run 2 bench train
    run 2 bench ops --ops '('
    complains "--ops"
    run 2 bench ops --ops nosuchoperator
    complains "no operator"
    run 2 bench ops --dtype f31
    complains "f31"
    run 3 bench ops --device nonsense --ops '^add$'
    silent
}

terminal() {
    long="train mnist --model mlp --epochs 100 --budget 3"
    run 0 $long
    what="train in a pipe"
    cat "$work/err" >>"$work/out"
    holds '\033' && bad "$what: escape sequences"
    holds '\r' && bad "$what: carriage returns"

    if ! script -qec true /dev/null >/dev/null 2>&1; then
        echo "skipped: a terminal (there is no script(1))"
        return
    fi
    what="train on a terminal"
    checks=$((checks + 1))
    : >"$work/err"
    TERM=xterm LC_ALL=C.UTF-8 script -qec "stty cols 80; '$tessera' $long" /dev/null >"$work/out" </dev/null || bad "$what: status"
    holds '\r\033[K' || bad "$what: no bar is redrawn"
    holds '━' || bad "$what: no bar"
    holds 'images/s' || bad "$what: no speed"
    holds 'left' || bad "$what: no remaining time"
    holds '\033[32m' || bad "$what: no colour"
    redraws=$(grep -oF -e "$(printf '\r\033[K')" "$work/out" | wc -l)
    [ "$redraws" -le 80 ] || bad "$what: $redraws redraws in some 4 s"
    # A bar must not wrap: no frame is wider than 80 columns.
    tr '\r' '\n' <"$work/out" | plain | awk 'length($0) > 80 { print; exit 1 }' || bad "$what: a line is wider than the terminal"

    what="train on a terminal with NO_COLOR"
    NO_COLOR=1 TERM=xterm LC_ALL=C script -qec "stty cols 60; '$tessera' $long" /dev/null >"$work/out" </dev/null || bad "$what: status"
    holds '\033[32m' && bad "$what: colour"
    holds '\r\033[K' || bad "$what: no bar is redrawn"
    holds '━' && bad "$what: characters that the locale lacks"

    what="devices on a narrow terminal"
    TERM=xterm LC_ALL=C.UTF-8 script -qec "stty cols 70; '$tessera' devices" /dev/null >"$work/out" </dev/null || bad "$what: status"
    sed -n '/DEVICE/,/^.\{0,2\}$/p' "$work/out" | tr -d '\r' | plain |
        awk 'length($0) > 74 { print; exit 1 }' || bad "$what: a line is too wide"
}

: >"$work/out"
: >"$work/err"
$part
echo "$part: $checks checks, $failures failures"
[ $failures -eq 0 ]
