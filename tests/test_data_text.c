/* Texts as data sets: parts, strides, random windows. */
#include "io_files.h"
#include "made_text.h"

#include "data/dataset.h"

/* The whole data set, sample by sample, against the tokens of the text. */
static void check_windows(const tsr_dataset *d, const int64_t *tokens, int64_t context, int64_t stride, int64_t count)
{
    int64_t x[16], y[16];
    assert_int_equal(tsr_dataset_count(d), count);
    for (int64_t i = 0; i < count; i++) {
        assert_int_equal(dataset_read(d, i, x, y), TSR_OK);
        assert_memory_equal(x, tokens + i * stride, (size_t)context * sizeof *x);
        assert_memory_equal(y, tokens + i * stride + 1, (size_t)context * sizeof *y);
    }
}

static void reads_texts(void **state)
{
    static uint8_t bytes[6000];
    const size_t size = make_text(bytes, sizeof bytes, 7);
    const char *path = path_in_folder("text.txt");
    int64_t *all, *learn, *rest, count, learn_count, rest_count;
    (void)state;
    write_file(path, bytes, size);
    for (int bpe = 0; bpe < 2; bpe++) {
        tsr_tokenizer *t = bpe == 1 ? tsr_bpe_train(bytes, size, 300) : tsr_tokenizer_bytes();
        size_t cut = (size_t)(0.75 * (double)size);
        while ((bytes[cut] & 0xC0) == 0x80)
            cut--;
        assert_int_equal(tsr_tokenizer_encode(t, bytes, size, false, &all, &count), TSR_OK);
        assert_int_equal(tsr_tokenizer_encode(t, bytes, cut, false, &learn, &learn_count), TSR_OK);
        assert_int_equal(tsr_tokenizer_encode(t, bytes + cut, size - cut, false, &rest, &rest_count), TSR_OK);
        tsr_dataset *d = tsr_text_open(path, t, &(tsr_text_options){.context = 16});
        check_windows(d, all, 16, 16, (count - 1) / 16);
        assert_int_equal(tsr_dataset_classes(d), bpe == 1 ? 300 : 256);
        tsr_dataset_destroy(d);
        d = tsr_text_open(path, t, &(tsr_text_options){.context = 5, .stride = 1, .to = 0.75});
        check_windows(d, learn, 5, 1, learn_count - 5);
        tsr_dataset_destroy(d);
        d = tsr_text_open(path, t, &(tsr_text_options){.context = 5, .stride = 3, .from = 0.75, .to = 1});
        check_windows(d, rest, 5, 3, (rest_count - 6) / 3 + 1);
        tsr_dataset_destroy(d);

        tsr_tokenizer_free(all);
        tsr_tokenizer_free(learn);
        tsr_tokenizer_free(rest);
        tsr_tokenizer_destroy(t);
    }
}

/* Random windows: the file's bytes are their own places here, so each can be told; every place comes, about equally often. */
static void draws_windows(void **state)
{
    enum { PLACES = 200, CONTEXT = 8, DRAWS = 20000 };
    uint8_t bytes[PLACES + CONTEXT];
    int64_t x[CONTEXT], y[CONTEXT], z[CONTEXT];
    int seen[PLACES] = {0};
    (void)state;
    for (int i = 0; i < PLACES + CONTEXT; i++)
        bytes[i] = (uint8_t)i;
    const char *path = path_in_folder("places.txt");
    write_file(path, bytes, sizeof bytes);
    tsr_tokenizer *t = tsr_tokenizer_bytes();
    tsr_text_options o = {.context = CONTEXT, .windows = DRAWS, .seed = 3};
    tsr_dataset *a = tsr_text_open(path, t, &o), *b = tsr_text_open(path, t, &o);
    o.seed = 4;
    tsr_dataset *c = tsr_text_open(path, t, &o);
    tsr_tokenizer_destroy(t); /* needed for the call only */
    assert_int_equal(tsr_dataset_count(a), DRAWS);
    int alike = 0;
    for (int i = 0; i < DRAWS; i++) {
        bool good = dataset_read(a, i, x, y) == TSR_OK;
        for (int k = 0; k < CONTEXT; k++)
            good = good && x[k] == x[0] + k && y[k] == x[0] + k + 1;
        good = good && dataset_read(b, i, z, y) == TSR_OK && memcmp(x, z, sizeof x) == 0;
        if (!good)
            assert_true(good);
        seen[x[0]]++;
        dataset_read(c, i, z, y);
        alike += x[0] == z[0];
    }
    /* Binomial: 100 of each on average, deviation 10; 6 deviations, for 200 places less than one in a million runs. */
    for (int i = 0; i < PLACES; i++)
        assert_in_range(seen[i], 40, 160);
    assert_in_range(alike, 40, 160);
    tsr_dataset_destroy(a);
    tsr_dataset_destroy(b);
    tsr_dataset_destroy(c);
}

static void refuses_bad_options(void **state)
{
    static const tsr_text_options bad[] = {{.context = 0},
                                           {.context = 2, .stride = -1},
                                           {.context = 2, .windows = -1},
                                           {.context = 2, .from = 0.5, .to = 0.5},
                                           {.context = 2, .from = -0.5},
                                           {.context = 2, .to = 1.5}};
    const char *path = path_in_folder("short.txt");
    (void)state;
    write_file(path, "12345678", 8);
    tsr_tokenizer *t = tsr_tokenizer_bytes();
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        assert_null(tsr_text_open(path, t, &bad[i]));
        assert_int_equal(tsr_last_status(), TSR_OUT_OF_RANGE);
    }
    assert_null(tsr_text_open(path, t, &(tsr_text_options){.context = 8}));
    assert_int_equal(tsr_last_status(), TSR_CORRUPT_DATA);
    assert_null(tsr_text_open(path_in_folder("none"), t, &(tsr_text_options){.context = 8}));
    assert_int_equal(tsr_last_status(), TSR_NOT_FOUND);
    tsr_dataset *d = tsr_text_open(path, t, &(tsr_text_options){.context = 7});
    assert_int_equal(tsr_dataset_count(d), 1);
    tsr_dataset_destroy(d);
    tsr_tokenizer_destroy(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_texts),
        cmocka_unit_test(draws_windows),
        cmocka_unit_test(refuses_bad_options),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
