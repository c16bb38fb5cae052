/* Text from a GPT: with keys and values kept it is the text of whole forward passes; and the models that are read from files of several makes. */
#include "tests/op_reference.h"

#include "io_files.h"
#include "tessera/gpt.h"
#include "tessera/io.h"

enum { VOCABULARY = 37, CONTEXT = 12, WIDTH = 24, LAYERS = 2, HEADS = 3, LENGTH = 40 };

static const tsr_gpt_options sizes = {
    .vocabulary = VOCABULARY, .context = CONTEXT, .width = WIDTH, .layers = LAYERS, .heads = HEADS};

typedef struct written {
    int64_t tokens[LENGTH];
    int count, most; /* ends after so many */
} written;

static bool take(void *context, int64_t token)
{
    written *w = context;
    w->tokens[w->count++] = token;
    return w->count < w->most;
}

static tsr_module *make(const run *r)
{
    require_ok(r, tsr_seed(r->device, 3));
    tsr_module *m = tsr_gpt_create(r->device, &sizes);
    require(r, m);
    return m;
}

static written generate(const run *r, tsr_module *m, const int64_t *prompt, size_t count, double temperature,
                        int64_t top_k, uint64_t seed)
{
    written w = {.most = LENGTH};
    require_ok(r, tsr_gpt_generate(m, prompt, count,
                                   &(tsr_generate_options){.length = LENGTH,
                                                           .temperature = temperature,
                                                           .top_k = top_k,
                                                           .seed = seed,
                                                           .take = take,
                                                           .context = &w}));
    assert_int_equal(w.count, LENGTH);
    return w;
}

/* ---- greedy text, against whole forward passes over the window ---- */

static int64_t likeliest_after(const run *r, tsr_module *m, const int64_t *window, int64_t count)
{
    float logits[CONTEXT * VOCABULARY];
    require_ok(r, tsr_scope_begin());
    tsr_tensor *x = tsr_from_data(r->device, TSR_I64, 2, (int64_t[]){1, count}, window);
    tsr_tensor *y = tsr_forward(m, x);
    require(r, y);
    require_ok(r, tsr_read_f32(y, logits, (size_t)(count * VOCABULARY)));
    require_ok(r, tsr_scope_end());
    const float *last = logits + (count - 1) * VOCABULARY;
    int64_t best = 0;
    for (int i = 1; i < VOCABULARY; i++)
        best = last[i] > last[best] ? i : best;
    return best;
}

static void greedy_on(const run *r)
{
    const int64_t prompt[] = {5, 1, 30};
    tsr_module *m = make(r);
    const written w = generate(r, m, prompt, 3, 0, 0, 0);
    int64_t window[CONTEXT];
    int count = 3;
    memcpy(window, prompt, sizeof prompt);
    for (int i = 0; i < LENGTH; i++) {
        assert_int_equal(w.tokens[i], likeliest_after(r, m, window, count));
        if (count == CONTEXT) { /* a full one goes on with its later half */
            count = CONTEXT / 2;
            memmove(window, window + CONTEXT - count, (size_t)count * sizeof *window);
        }
        window[count++] = w.tokens[i];
    }
    assert_true(tsr_module_is_training(m));
    tsr_module_destroy(m);
}

static void test_greedy(void **state)
{
    (void)state;
    on_every_device(greedy_on);
}

/* ---- draws ---- */

static void draws_on(const run *r)
{
    int64_t prompt[2 * CONTEXT];
    for (int i = 0; i < 2 * CONTEXT; i++)
        prompt[i] = i % VOCABULARY;
    tsr_module *m = make(r);
    const written a = generate(r, m, prompt, 2 * CONTEXT, 1, 0, 7), b = generate(r, m, prompt, 2 * CONTEXT, 1, 0, 7);
    const written other = generate(r, m, prompt, 2 * CONTEXT, 1, 0, 8);
    assert_memory_equal(a.tokens, b.tokens, sizeof a.tokens);
    assert_memory_not_equal(a.tokens, other.tokens, sizeof a.tokens);
    /* A prompt beyond the context counts by its end; one token to draw from is the likeliest. */
    const written end = generate(r, m, prompt + CONTEXT, CONTEXT, 1, 0, 7);
    assert_memory_equal(a.tokens, end.tokens, sizeof a.tokens);
    const written one = generate(r, m, prompt, 3, 1, 1, 9), greedy = generate(r, m, prompt, 3, 0, 0, 0);
    assert_memory_equal(one.tokens, greedy.tokens, sizeof one.tokens);
    /* An untrained model finds all tokens about as likely, so that 40 draws meet many of them. */
    bool met[VOCABULARY] = {false};
    int different = 0;
    for (int i = 0; i < LENGTH; i++) {
        different += !met[a.tokens[i]];
        met[a.tokens[i]] = true;
    }
    assert_true(different > 15);
    written short_one = {.most = 5};
    require_ok(r, tsr_gpt_generate(m, prompt, 1,
                                   &(tsr_generate_options){.length = LENGTH, .take = take, .context = &short_one}));
    assert_int_equal(short_one.count, 5);
    tsr_module_destroy(m);
}

static void test_draws(void **state)
{
    (void)state;
    on_every_device(draws_on);
}

/* How often the likeliest token comes is its softmax. */
static void test_temperature(void **state)
{
    (void)state;
    enum { DRAWS = 400 };
    run r = {.device = tsr_device_open("cpu"), .name = "cpu"};
    assert_non_null(r.device);
    tsr_module *m = make(&r);
    float logits[VOCABULARY];
    const int64_t prompt = 4;
    tsr_scope_begin();
    require_ok(&r, tsr_read_f32(tsr_forward(m, tsr_from_data(r.device, TSR_I64, 2, (int64_t[]){1, 1}, &prompt)), logits,
                                VOCABULARY));
    tsr_scope_end();
    int64_t best = 0, worst = 0;
    double sum = 0;
    for (int i = 0; i < VOCABULARY; i++) {
        best = logits[i] > logits[best] ? i : best;
        worst = logits[i] < logits[worst] ? i : worst;
    }
    const double temperature = ((double)logits[best] - (double)logits[worst]) / 5;
    for (int i = 0; i < VOCABULARY; i++)
        sum += exp(((double)logits[i] - (double)logits[best]) / temperature);
    int hits = 0;
    for (int i = 0; i < DRAWS; i++) {
        written w = {.most = 1};
        require_ok(&r,
                   tsr_gpt_generate(
                       m, &prompt, 1,
                       &(tsr_generate_options){
                           .length = 1, .temperature = temperature, .seed = (uint64_t)i, .take = take, .context = &w}));
        hits += w.tokens[0] == best;
    }
    const double p = 1 / sum, deviation = sqrt(DRAWS * p * (1 - p));
    assert_true(p > 0.05 && p < 0.95);
    assert_true(fabs(hits - DRAWS * p) < 5 * deviation);
    tsr_module_destroy(m);
    tsr_device_close(r.device);
}

static void test_wrong_calls(void **state)
{
    (void)state;
    run r = {.device = tsr_device_open("cpu"), .name = "cpu"};
    assert_non_null(r.device);
    tsr_module *m = make(&r), *other = tsr_relu_create();
    written w = {.most = LENGTH};
    const tsr_generate_options good = {.length = 1, .take = take, .context = &w};
    const int64_t tokens[] = {0, VOCABULARY};
    tsr_gpt_options o;
    assert_int_equal(tsr_gpt_generate(m, tokens, 0, &good), TSR_INVALID_ARGUMENT);
    assert_int_equal(tsr_gpt_generate(m, tokens, 1, NULL), TSR_INVALID_ARGUMENT);
    assert_int_equal(tsr_gpt_generate(other, tokens, 1, &good), TSR_INVALID_ARGUMENT);
    assert_int_equal(tsr_gpt_generate(NULL, tokens, 1, &good), TSR_INVALID_ARGUMENT);
    assert_int_equal(tsr_gpt_generate(m, tokens, 2, &good), TSR_OUT_OF_RANGE);
    assert_int_equal(tsr_gpt_generate(m, tokens, 1, &(tsr_generate_options){.temperature = -1, .take = take}),
                     TSR_OUT_OF_RANGE);
    assert_int_equal(tsr_gpt_generate(m, tokens, 1, &(tsr_generate_options){.length = 1}), TSR_INVALID_ARGUMENT);
    assert_int_equal(w.count, 0);
    assert_int_equal(tsr_gpt_describe(other, &o), TSR_INVALID_ARGUMENT);
    assert_int_equal(tsr_gpt_describe(m, &o), TSR_OK);
    assert_int_equal(o.heads, HEADS);
    tsr_module_destroy(m);
    tsr_module_destroy(other);
    tsr_device_close(r.device);
}

/* ---- files ---- */

enum { TENSORS_MOST = 64 };

/* The parameters under other names, without `left_out`. */
static void save_as(const run *r, const tsr_module *m, const char *path, const char *prefix, const char *left_out,
                    const char *heads)
{
    static char names[TENSORS_MOST][96];
    tsr_named_tensor tensors[TENSORS_MOST];
    size_t count = 0;
    for (size_t i = 0; i < tsr_module_parameter_count(m); i++) {
        char name[64];
        tsr_tensor *t = tsr_module_parameter(m, i, name, sizeof name);
        if (left_out != NULL && strcmp(name, left_out) == 0)
            continue;
        snprintf(names[count], sizeof names[count], "%s%s", prefix, name);
        tensors[count] = (tsr_named_tensor){names[count], t};
        count++;
    }
    const tsr_metadata metadata = {"gpt.heads", heads};
    require_ok(r, tsr_safetensors_save(path, tensors, count, &metadata, heads != NULL));
}

static void expect_heads(const run *r, const char *path, int64_t heads, int64_t expected)
{
    tsr_gpt_options o;
    tsr_module *m = tsr_gpt_load(r->device, path, heads);
    require(r, m);
    require_ok(r, tsr_gpt_describe(m, &o));
    assert_int_equal(o.heads, expected);
    assert_int_equal(o.layers, LAYERS);
    assert_int_equal(o.vocabulary, VOCABULARY);
    assert_int_equal(o.context, CONTEXT);
    assert_int_equal(o.width, WIDTH);
    tsr_module_destroy(m);
}

static void load_on(const run *r)
{
    static const char *const prefixes[] = {"", "transformer.", "model."};
    const int64_t prompt = 2;
    const char *path = path_in_folder("model.safetensors");
    tsr_module *m = make(r);
    const written expected = generate(r, m, &prompt, 1, 0, 0, 0);
    for (size_t i = 0; i < 3; i++) {
        save_as(r, m, path, prefixes[i], NULL, "3");
        require_ok(r, tsr_seed(r->device, 99));
        tsr_module *again = tsr_gpt_load(r->device, path, 0);
        require(r, again);
        const written got = generate(r, again, &prompt, 1, 0, 0, 0);
        assert_memory_equal(got.tokens, expected.tokens, sizeof got.tokens);
        tsr_module_destroy(again);
    }
    expect_heads(r, path, 0, 3);
    expect_heads(r, path, 8, 8);
    tsr_module_destroy(m);
}

static void test_load(void **state)
{
    (void)state;
    on_every_device(load_on);
}

static void fails(const run *r, const char *path, int64_t heads, tsr_status status, const char *word)
{
    assert_null(tsr_gpt_load(r->device, path, heads));
    assert_int_equal(tsr_last_status(), status);
    if (strstr(tsr_last_error(), word) == NULL)
        fail_msg("'%s' does not speak of '%s'", tsr_last_error(), word);
}

static void test_load_heads_and_errors(void **state)
{
    (void)state;
    run r = {.device = tsr_device_open("cpu"), .name = "cpu"};
    assert_non_null(r.device);
    const char *path = path_in_folder("model.safetensors"), *config = path_in_folder("config.json");
    tsr_module *m = make(&r);
    save_as(&r, m, path, "", NULL, NULL);
    fails(&r, path, 0, TSR_CORRUPT_DATA, "0 heads"); /* 24 / 64 */
    write_file(config, "{\"n_head\": 6}", 13);
    expect_heads(&r, path, 0, 6);
    write_file(config, "{\"n_head\": -6}", 14);
    fails(&r, path, 0, TSR_CORRUPT_DATA, "-6 heads");
    write_file(config, "{\"n_head\": 6", 12);
    fails(&r, path, 0, TSR_CORRUPT_DATA, "0 heads");
    fails(&r, path, 5, TSR_CORRUPT_DATA, "5 heads");
    fails(&r, path, -1, TSR_INVALID_ARGUMENT, "heads");
    save_as(&r, m, path, "", NULL, "seven");
    fails(&r, path, 0, TSR_CORRUPT_DATA, "heads");
    save_as(&r, m, path, "", "wte.weight", "3");
    fails(&r, path, 0, TSR_CORRUPT_DATA, "wte.weight");
    save_as(&r, m, path, "", "wpe.weight", "3");
    fails(&r, path, 0, TSR_CORRUPT_DATA, "wpe.weight");
    save_as(&r, m, path, "", "h.0.mlp.c_fc.bias", "3");
    fails(&r, path, 0, TSR_NOT_FOUND, "h.0.mlp.c_fc.bias");
    save_as(&r, m, path, "", "h.0.ln_1.weight", "3");
    fails(&r, path, 0, TSR_CORRUPT_DATA, "0 layers");
    write_file(path, "no", 2);
    fails(&r, path, 0, TSR_CORRUPT_DATA, "model.safetensors");
    fails(&r, path_in_folder("none"), 0, TSR_NOT_FOUND, "none");
    tsr_module_destroy(m);
    tsr_device_close(r.device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy),      cmocka_unit_test(test_draws), cmocka_unit_test(test_temperature),
        cmocka_unit_test(test_wrong_calls), cmocka_unit_test(test_load),  cmocka_unit_test(test_load_heads_and_errors),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
