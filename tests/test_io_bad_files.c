/* Bad files of weights, language models and training states: each is refused with a message of its own, that names the file and the fault; nothing changes, nothing leaks, and no
 * memory is taken for what a file claims to hold. */
#include "io_files.h"

#include <sys/resource.h>

#include "tests/op_reference.h"

#include "base/compiler.h"
#include "base/memory.h"
#include "base/sha256.h"
#include "tessera/io.h"

enum { MESSAGE = 1024, ROWS_MOST = 100 };

/* The messages so far; none may come twice. */
static char messages[ROWS_MOST][MESSAGE];
static size_t message_count;

static void note_message(const char *path, const char *says)
{
    const char *message = tsr_last_error();
    if (strstr(message, path) == NULL || strstr(message, says) == NULL)
        print_error("'%s' names neither '%s' nor the file\n", message, says);
    assert_non_null(strstr(message, path));
    assert_non_null(strstr(message, says));
    for (size_t i = 0; i < message_count; i++)
        assert_string_not_equal(messages[i], message);
    assert_true(message_count < ROWS_MOST);
    snprintf(messages[message_count++], MESSAGE, "%s", message);
}

/* 64 MiB more address space than there is now: what takes memory for a lie of 100 MB or more gives TSR_OUT_OF_MEMORY. (A sanitizer needs
 * terabytes of it; there the limit is left out.) */
static void limit_memory(bool on)
{
    static struct rlimit before;
    struct rlimit now;
    unsigned long pages = 0;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return;
#endif
    if (!on) {
        assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
        return;
    }
    FILE *f = fopen("/proc/self/statm", "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%lu", &pages), 1);
    fclose(f);
    assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
    now = before;
    now.rlim_cur = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + ((rlim_t)64 << 20);
    assert_int_equal(setrlimit(RLIMIT_AS, &now), 0);
}

/* ---- weights ---- */

typedef struct bad_weights {
    const char *header;
    size_t data;
    uint64_t length; /* what stands before the header; 0: its length */
    const char *says;
} bad_weights;

#define X(dtype, shape, offsets) "{\"x\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
#define XY(first, second)                                                                                              \
    "{\"x\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" first                                                   \
    "},\"y\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" second "}}"
#define TEN(x)     x x x x x x x x x x
#define HUNDRED(x) TEN(x) TEN(x) TEN(x) TEN(x) TEN(x) TEN(x) TEN(x) TEN(x) TEN(x) TEN(x)

static const bad_weights weights[] = {
    /* lengths */
    {"{}", 0, 3, "its header has 3 bytes, the file 10"},
    {"{}", 0, 100000000, "its header has 100000000 bytes"},
    {"{}", 0, 100000001, "would have 100000001 bytes"},
    {"{}", 0, UINT64_MAX, "would have 18446744073709551615 bytes"},
    {"{}", 0, (uint64_t)INT64_MAX + 1, "would have 9223372036854775808 bytes"},
    {"{}", 1, 0, "end at byte 0 of 1"},
    /* no JSON */
    {"", 0, 0, "'[' or '{' expected"},
    {"{", 0, 0, "string or '}' expected near end of file"},
    {"{\"x\":1", 0, 0, "'}' expected near end of file"},
    {"{} {", 0, 0, "end of file expected"},
    {"{\"x\":1,\"x\":1}", 0, 0, "duplicate object key near '\"x\"'"},
    {"{\"\xC3\x28\":1}", 0, 0, "unable to decode byte"},
    {"{\"x\":1e999}", 0, 0, "real number overflow"},
    {"{\"x\":9223372036854775808}", 0, 0, "too big integer"},
    {"{\"x\\u0000\":1}", 0, 0, "\\u0000"},
    {"{\"x\":NaN}", 0, 0, "invalid token near 'NaN'"},
    {"{\"x\":-Infinity}", 0, 0, "invalid token near '-'"},
    {HUNDRED(TEN("[[[")), 0, 0, "maximum parsing depth reached"},
    {"[1]", 0, 0, "no JSON object"},
    {"{\"__metadata__\":7}", 0, 0, "its __metadata__ is no object"},
    {"{\"__metadata__\":{\"k\":null}}", 0, 0, "'k' of its __metadata__"},
    /* entries */
    {"{\"x\":[1]}", 0, 0, "under 'x' describes no tensor"},
    {X("null", "[4]", "[0,4]"), 4, 0, "tensor 'x' has no dtype"},
    {X("\"f32\"", "[1]", "[0,4]"), 4, 0, "the dtype 'f32', which is not known"},
    {X("\"F32 \"", "[1]", "[0,4]"), 4, 0, "the dtype 'F32 ', which is not known"},
    {X("\"U8\"", "\"4\"", "[0,4]"), 4, 0, "tensor 'x' has no shape"},
    {X("\"U8\"", "[2,-2]", "[0,4]"), 4, 0, "size 1 of tensor 'x' is no whole number"},
    {X("\"U8\"", "[4e0]", "[0,4]"), 4, 0, "size 0 of tensor 'x' is no whole number"},
    {X("\"U8\"", "[1,1,1,1,1,1,1,1,4]", "[0,4]"), 4, 0, "9 dimensions"},
    {X("\"F64\"", "[3037000500,3037000500]", "[0,4]"), 4, 0, "multiply to more than 2^63"},
    {X("\"U8\"", "[4611686018427387904]", "[0,4]"), 4, 0, "needs 4611686018427387904 bytes and has 4"},
    {X("\"F32\"", "[536870912,2]", "[0,4]"), 4, 0, "needs 4294967296 bytes and has 4"},
    {X("\"U8\"", "[4]", "[0]"), 4, 0, "has no two data_offsets"},
    {X("\"U8\"", "[4]", "[3,1]"), 4, 0, "lies at bytes 3 to 1 of 4"},
    {X("\"U8\"", "[4]", "[1,5]"), 4, 0, "lies at bytes 1 to 5 of 4"},
    {X("\"U8\"", "[4]", "[9223372036854775803,9223372036854775807]"), 4, 0,
     "9223372036854775803 to 9223372036854775807"},
    {X("\"F32\"", "[1]", "[0,3]"), 4, 0, "needs 4 bytes and has 3"},
    {X("\"F32\"", "[0]", "[0,4]"), 4, 0, "needs 0 bytes and has 4"},
    {X("\"U8\"", "[4]", "[1,5]"), 5, 0, "bytes 0 to 1, before tensor 'x', belong to none"},
    {XY("[0,4]", "[3,7]"), 7, 0, "tensor 'y' overlaps 'x'"},
    {XY("[1,5]", "[0,4]"), 5, 0, "tensor 'x' overlaps 'y'"},
    {XY("[0,4]", "[5,9]"), 9, 0, "bytes 4 to 5, before tensor 'y', belong to none"},
    {XY("[0,4]", "[4,8]"), 9, 0, "end at byte 8 of 9"},
};

static void test_weights(void **state)
{
    const char *path = path_in_folder("bad.safetensors");
    (void)state;
    limit_memory(true);
    for (size_t i = 0; i < COUNT_OF(weights); i++) {
        const bad_weights *w = &weights[i];
        write_safetensors(path, w->length != 0 ? w->length : strlen(w->header), w->header, w->data);
        const int64_t live = host_live_allocations();
        tsr_clear_error();
        assert_null(tsr_safetensors_open(path));
        assert_true(tsr_last_status() == TSR_CORRUPT_DATA || tsr_last_status() == TSR_UNSUPPORTED);
        note_message(path, w->says);
        assert_int_equal(host_live_allocations(), live);
    }
    limit_memory(false);
}

/* ---- language models ---- */

#define U8S(name, shape, offsets) "\"" name "\":{\"dtype\":\"U8\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

/* A width whose square is not in the file takes no memory; the first two would be of gigabytes. */
static const bad_weights gpts[] = {
    {"{" U8S("wte.weight", "[0,100000]", "[0,0]") "," U8S("wpe.weight", "[0,100000]",
                                                          "[0,0]") "," U8S("h.0.ln_1.weight", "[0]", "[0,0]") "}",
     0, 0, "a vocabulary of 0, a context of 0 and a width of 100000"},
    {"{" U8S("wte.weight", "[1,65536]", "[0,65536]") "," U8S("wpe.weight", "[1,65536]", "[65536,131072]") "," U8S(
         "h.0.ln_1.weight", "[0]", "[131072,131072]") "}",
     131072, 0, "h.0.attn.c_attn.weight is not there, or not [65536, 3 * 65536]"},
    {"{" U8S("wte.weight", "[1,8]", "[0,8]") "," U8S("wpe.weight", "[1,8]", "[8,16]") "," U8S(
         "h.0.ln_1.weight", "[0]", "[16,16]") "," U8S("h.0.attn.c_attn.weight", "[8,0]", "[16,16]") "}",
     16, 0, "h.0.attn.c_attn.weight is not there, or not [8, 3 * 8]"},
    {"{" U8S("wte.weight", "[2,4]", "[0,8]") "," U8S("wpe.weight", "[1,8]", "[8,16]") "}", 16, 0,
     "are not [vocabulary, width] and [context, width]"},
    {"{" U8S("wte.weights", "[2,4]", "[0,8]") "}", 8, 0, "there is no wte.weight"},
    {"{" U8S("wte.weight", "[1,8]", "[0,8]") "," U8S("wpe.weight", "[1,8]", "[8,16]") "}", 16, 0,
     "0 layers of width 8"},
};

static void test_gpts(void **state)
{
    const char *path = path_in_folder("bad.gpt");
    tsr_device *cpu = tsr_device_open("cpu");
    (void)state;
    limit_memory(true);
    for (size_t i = 0; i < COUNT_OF(gpts); i++) {
        const bad_weights *w = &gpts[i];
        write_safetensors(path, strlen(w->header), w->header, w->data);
        const int64_t live = host_live_allocations();
        tsr_clear_error();
        assert_null(tsr_gpt_load(cpu, path, 0));
        assert_int_equal(tsr_last_status(), TSR_CORRUPT_DATA);
        note_message(path, w->says);
        assert_int_equal(host_live_allocations(), live);
    }
    limit_memory(false);
    tsr_device_close(cpu);
}

/* ---- training states ---- */

/* A good state, one place of its header changed (the first), and the digest made right again. */
typedef struct bad_state {
    const char *from, *to;
    tsr_status status;
    const char *says;
} bad_state;

#define BAD(from, to, says)                                                                                            \
    {                                                                                                                  \
        from, to, TSR_CORRUPT_DATA, says                                                                               \
    }

static const bad_state states[] = {
    BAD("\"sha256\"", "\"sha255\"", "has no digest"),
    BAD("\"format\": \"tessera training state 1\"", "\"format\": \"tessera training state 2\"",
        "'tessera training state 2'; what can be read is"),
    BAD("\"format\": \"tessera training state 1\"", "\"format\": \"pt\"", "is 'pt'"),
    BAD("\"format\"", "\"forman\"", "tells no format"),
    BAD("\"settings\"", "\"setting\"", "does not tell of which training"),
    {"\"settings\": \"a test\"", "\"settings\": \"\"", TSR_INVALID_ARGUMENT, "it was '', this is 'a test'"},
    {"\"settings\": \"a test\"", "\"settings\": \"b test\"", TSR_INVALID_ARGUMENT, "it was 'b test'"},
    BAD("\"step\": \"2\",", "", "has no 'step'"),
    BAD("\"step\": \"2\"", "\"step\": 2", "'step' of its __metadata__ is no string"),
    BAD("\"step\": \"2\"", "\"step\": \"\"", "'step' is ''"),
    BAD("\"step\": \"2\"", "\"step\": \"-2\"", "'step' is '-2'"),
    BAD("\"step\": \"2\"", "\"step\": \"2.0\"", "'step' is '2.0'"),
    BAD("\"step\": \"2\"", "\"step\": \"two\"", "'step' is 'two'"),
    BAD("\"step\": \"2\"", "\"step\": \" 2\"", "'step' is ' 2'"),
    BAD("\"step\": \"2\"", "\"step\": \"nan\"", "'step' is 'nan'"),
    BAD("\"step\": \"2\"", "\"step\": \"18446744073709551616\"", "'step' is '18446744073709551616'"),
    BAD("\"step\": \"2\"", "\"step\": \"9223372036854775808\"", "step 9223372036854775808 or place 4"),
    BAD("\"step\": \"2\"", "\"step\": \"3\"", "losses, F32 [2], are not one f32 for each of 3 steps"),
    BAD("\"step\": \"2\"", "\"step\": \"9223372036854775807\"", "each of 9223372036854775807 steps"),
    BAD("\"epoch\"", "\"epoca\"", "has no 'epoch'"),
    BAD("\"epoch\": \"0\"", "\"epoch\": \"1e3\"", "'epoch' is '1e3'"),
    BAD("\"sample\": \"4\"", "\"sample\": \"18446744073709551615\"", "place 18446744073709551615"),
    {"\"sample\": \"4\"", "\"sample\": \"13\"", TSR_OUT_OF_RANGE, "12 samples; there is no place 13"},
    BAD("\"sample\": \"4\"", "\"sample\": \"4x\"", "'sample' is '4x'"),
    BAD("\"seed\"", "\"seeed\"", "has no 'seed'"),
    BAD("\"draws\": \"", "\"draws\": \"0x", "'draws' is '0x"),
    BAD("\"host_draws\": \"", "\"host_draws\": \"-", "'host_draws' is '-"),
    BAD("\"lr\"", "\"rl\"", "has no 'lr'"),
    BAD("\"lr\": \"0.001\"", "\"lr\": \"nan\"", "'lr' is 'nan'"),
    BAD("\"lr\": \"0.001\"", "\"lr\": \"inf\"", "'lr' is 'inf'"),
    BAD("\"lr\": \"0.001\"", "\"lr\": \"1e400\"", "'lr' is '1e400'"),
    BAD("\"lr\": \"0.001\"", "\"lr\": \"-0.001\"", "'lr' is '-0.001'"),
    BAD("\"lr\": \"0.001\"", "\"lr\": \"0.001 \"", "'lr' is '0.001 '"),
    {"model.0.weight", "model.0.weigth", TSR_NOT_FOUND, "no tensor 'model.0.weight'; did you mean 'model.0.weigth'"},
    {"optimizer.step", "optimizer.stop", TSR_NOT_FOUND, "no tensor 'optimizer.step'"},
    {"scaler.scale", "scaler.scala", TSR_NOT_FOUND, "no tensor 'scaler.scale'"},
    {"\"losses\"", "\"lusses\"", TSR_NOT_FOUND, "no tensor 'losses'"},
    {"      3,\n      2\n", "      2,\n      3\n", TSR_INVALID_ARGUMENT, "'model.0.weight' has another shape, [2, 3]"},
};

static const char name[] = "a test";

/* Replaces the first `from` of the header, and writes the file with the digest and length that then are right. */
static void write_changed(const char *path, const uint8_t *good, size_t size, const bad_state *s)
{
    static const char key[] = "\"sha256\": \"";
    uint64_t length = 0;
    for (int i = 7; i >= 0; i--)
        length = length << 8 | good[i];
    const char *header = (const char *)good + 8;
    const char *place = memmem(header, length, s->from, strlen(s->from));
    assert_non_null(place);
    const size_t before = (size_t)(place - header), cut = strlen(s->from), put = strlen(s->to);
    const size_t now = (size_t)length - cut + put, whole = 8 + now + (size - 8 - (size_t)length);
    uint8_t *bytes = malloc(whole);
    for (int i = 0; i < 8; i++)
        bytes[i] = (uint8_t)(now >> (8 * i));
    memcpy(bytes + 8, header, before);
    memcpy(bytes + 8 + before, s->to, put);
    memcpy(bytes + 8 + before + put, place + cut, size - 8 - before - cut);

    char *digits = memmem(bytes + 8, now, key, strlen(key));
    if (digits != NULL) {
        char digest[SHA256_HEX_SIZE];
        sha256 hash;
        digits += strlen(key);
        memset(digits, '0', SHA256_HEX_SIZE - 1);
        sha256_begin(&hash);
        sha256_update(&hash, bytes + 8, whole - 8);
        sha256_end_hex(&hash, digest);
        memcpy(digits, digest, SHA256_HEX_SIZE - 1);
    }
    write_file(path, bytes, whole);
    free(bytes);
}

static tsr_status read_sample(void *context, int64_t number, void *to, void *target)
{
    (void)context;
    ((float *)to)[0] = ((float *)to)[1] = (float)number;
    *(int64_t *)target = number % 3;
    return TSR_OK;
}

static void test_states(void **state)
{
    run r = {.device = tsr_device_open("cpu"), .name = "cpu"};
    const char *path = path_in_folder("bad.state"), *good_path = path_in_folder("good.state");
    float losses[2] = {1, 2};
    (void)state;
    tsr_dataset *d = tsr_dataset_create(&(tsr_dataset_source){.count = 12,
                                                              .sample_dtype = TSR_F32,
                                                              .target_dtype = TSR_I64,
                                                              .sample_rank = 1,
                                                              .sample_shape = {2},
                                                              .read = read_sample});
    tsr_training t = {.step = 2, .settings = name, .losses = losses, .losses_capacity = 2};
    t.model = TSR_SEQUENTIAL(tsr_linear_create(r.device, 2, 3, true));
    t.optimizer = tsr_adam_for(t.model, NULL);
    t.scaler = tsr_grad_scaler_create(r.device, NULL);
    t.batches = tsr_batches_create(d, r.device, &(tsr_batches_options){.batch = 2});
    for (int i = 0; i < 2; i++) {
        tsr_tensor *x, *y;
        int64_t count;
        require_ok(&r, tsr_scope_begin());
        require_ok(&r, tsr_batches_next(t.batches, &x, &y, &count));
        require_ok(&r, tsr_backward(tsr_cross_entropy(tsr_forward(t.model, x), y)));
        require_ok(&r, tsr_optimizer_step(t.optimizer));
        require_ok(&r, tsr_scope_end());
    }
    require_ok(&r, tsr_training_save(&t, good_path, 1));
    size_t size;
    uint8_t *good = read_file(good_path, &size);
    /* Changed into itself it is good: what is refused below is refused for its fault, not for its digest. */
    write_changed(path, good, size, &(bad_state){"\"lr\"", "\"lr\"", TSR_OK, ""});
    require_ok(&r, tsr_training_load(&t, path));

    limit_memory(true);
    float before[6], after[6];
    require_ok(&r, tsr_read(tsr_module_parameter(t.model, 0, NULL, 0), before, sizeof before));
    for (size_t i = 0; i < COUNT_OF(states); i++) {
        write_changed(path, good, size, &states[i]);
        const int64_t live = host_live_allocations();
        tsr_clear_error();
        assert_int_equal(tsr_training_load(&t, path), states[i].status);
        note_message(path, states[i].says);
        assert_int_equal(host_live_allocations(), live);
        assert_int_equal(t.step, 2);
    }
    /* Without a new digest. */
    good[size - 1] ^= 1;
    write_file(path, good, size);
    assert_int_equal(tsr_training_load(&t, path), TSR_CORRUPT_DATA);
    note_message(path, "its SHA-256 is not the one");
    good[size - 1] ^= 1;
    write_file(path, good, size - 1);
    assert_int_equal(tsr_training_load(&t, path), TSR_CORRUPT_DATA);
    note_message(path, "'losses' lies at bytes 124 to 132 of 131");
    limit_memory(false);
    require_ok(&r, tsr_read(tsr_module_parameter(t.model, 0, NULL, 0), after, sizeof after));
    assert_memory_equal(before, after, sizeof before);

    free(good);
    tsr_batches_destroy(t.batches);
    tsr_dataset_destroy(d);
    tsr_grad_scaler_destroy(t.scaler);
    tsr_optimizer_destroy(t.optimizer);
    tsr_module_destroy(t.model);
    tsr_device_close(r.device);
    print_message("%zu bad files, each with a message of its own\n", message_count);
    assert_true(message_count >= 60);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_weights),
        cmocka_unit_test(test_gpts),
        cmocka_unit_test(test_states),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
