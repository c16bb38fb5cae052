/* Tokenizers: words by GPT-2's pattern, byte-pair encoding against the plainest way of doing it, and its files. */
#include "io_files.h"
#include "made_text.h"

#include "base/compiler.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/unicode.h"
#include "data/tokenizer.h"
#include "data/words.h"

#include <stdbool.h>

/* ---- words ---- */

/* '|' stands between words: what the pattern matches, worked out by hand. */
static void splits_as_the_pattern_does(void **state)
{
    static const char *const texts[] = {
        "Hello|,| world|!",
        "I|'m| we|'ll| don|'t| he|'s| you|'re| they|'ve| I|'d",
        "'s|x| '|s|'|S|'|x| '|ll|'|lx", /* only small letters, and not behind a space */
        "a|  | b",
        "one| 2| 3|.|14",
        "abc|123|def",
        "x|_|y|=|1",
        " (|hello|)",
        "tab|\t|tab",
        "line|\n|line",
        "line| \n| line",
        "end|  ",
        "end| ",
        "  ",
        " | a",
        "  | a",
        "\n\n|\n|x",
        "\xC2\xA0|\xC2\xA0|x", /* U+00A0 is white space that no word takes along */
        "na\xC3\xAFve| caf\xC3\xA9",
        "\xE6\x97\xA5\xE6\x9C\xAC|\xE3\x80\x82",          /* letters, a full stop */
        "e|\xCC\x81|e",                                   /* a combining accent is a mark, no letter */
        "\xD9\xA3\xE2\x85\xA3\xC2\xBD| \xF0\x9D\x9F\x98", /* numbers: Arabic three, Roman four, a half, double-struck 0 */
        "\xF0\x9F\x99\x82|a",
        "\x1C|a",                      /* no white space in Unicode */
        "\xE2\x80\x83|\xE3\x80\x80|a", /* two spaces and a word: the last stands alone */
        "a|\xFF\xC3|a|\xE2\x82|b",     /* bytes of no character are symbols */
        "!'|s",
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        uint8_t bytes[128];
        size_t size = 0, cuts[64], count = 0, at = 0;
        for (const char *c = texts[i]; *c != '\0'; c++)
            if (*c == '|')
                cuts[count++] = size;
            else
                bytes[size++] = (uint8_t)*c;
        cuts[count++] = size;
        for (size_t k = 0; k < count; k++) {
            at += word_length(bytes + at, size - at);
            if (at != cuts[k])
                print_error("\"%s\": word %zu ends at byte %zu, not %zu\n", texts[i], k, at, cuts[k]);
            assert_int_equal(at, cuts[k]);
        }
    }
}

static void knows_characters(void **state)
{
    bool seen[256] = {false};
    uint32_t code;
    char bytes[4];
    int wrong = 0;
    (void)state;
    for (uint32_t c = 0; c < 0x110000; c++) {
        const bool surrogate = c >= 0xD800 && c < 0xE000;
        const size_t size = utf8_write(c, bytes);
        const bool good = size == (c < 0x80      ? 1
                                   : c < 0x800   ? 2
                                   : c < 0x10000 ? 3
                                                 : 4) &&
                          utf8_read(bytes, size, &code) == (surrogate ? 0 : size) && (surrogate || code == c) &&
                          utf8_read(bytes, size - 1, &code) == 0;
        if (!good) /* cmocka's assertions take their time */
            print_error("U+%04X\n", (unsigned)c);
        wrong += !good;
        const int byte = character_byte(c);
        if (byte < 0)
            continue;
        assert_int_equal(byte_character((uint8_t)byte), c);
        assert_false(seen[byte]);
        seen[byte] = true;
    }
    assert_int_equal(wrong, 0);
    for (int i = 0; i < 256; i++)
        assert_true(seen[i]);
    /* GPT-2's files: a space is written U+0120, a line's end U+010A, 0xAD is the last. */
    assert_int_equal(byte_character(' '), 0x120);
    assert_int_equal(byte_character('\n'), 0x10A);
    assert_int_equal(byte_character(0xAD), 0x143);
    assert_int_equal(utf8_read("\xC0\x80", 2, &code), 0);         /* overlong */
    assert_int_equal(utf8_read("\xF4\x90\x80\x80", 4, &code), 0); /* above U+10FFFF */
    /* Some of each class, and their neighbours. */
    assert_int_equal(unicode_class_of('@'), UNICODE_OTHER);
    assert_int_equal(unicode_class_of('A'), UNICODE_LETTER);
    assert_int_equal(unicode_class_of(0xAA), UNICODE_LETTER);
    assert_int_equal(unicode_class_of(0xD7), UNICODE_OTHER); /* the multiplication sign, among letters */
    assert_int_equal(unicode_class_of(0xB2), UNICODE_NUMBER);
    assert_int_equal(unicode_class_of(0x3007), UNICODE_NUMBER);
    assert_int_equal(unicode_class_of(0x4E00), UNICODE_LETTER);
    assert_int_equal(unicode_class_of(0x2028), UNICODE_SPACE);
    assert_int_equal(unicode_class_of(0x200B), UNICODE_OTHER); /* zero width space is none */
    assert_int_equal(unicode_class_of(0x10FFFF), UNICODE_OTHER);
}

/* ---- the plainest way ---- */

/* The merge of (left, right) that stands first, or -1. */
static int64_t rank_of(const tsr_tokenizer *t, uint32_t left, uint32_t right)
{
    for (uint32_t i = 0; i < t->merge_count; i++)
        if (t->merges[i].left == left && t->merges[i].right == right)
            return i;
    return -1;
}

/* encoder.py's bpe(): find the most urgent pair, merge all its places, begin again. */
static size_t encode_plainly(const tsr_tokenizer *t, const uint8_t *bytes, size_t size, int64_t *tokens)
{
    size_t total = 0;
    for (size_t at = 0; at < size;) {
        const size_t length = word_length(bytes + at, size - at);
        int64_t *x = tokens + total;
        size_t n = length;
        for (size_t i = 0; i < n; i++)
            x[i] = t->of_byte[bytes[at + i]];
        while (true) {
            int64_t best = -1;
            for (size_t i = 0; i + 1 < n; i++) {
                const int64_t rank = rank_of(t, (uint32_t)x[i], (uint32_t)x[i + 1]);
                if (rank >= 0 && (best < 0 || rank < best))
                    best = rank;
            }
            if (best < 0)
                break;
            size_t out = 0;
            for (size_t i = 0; i < n; out++) {
                const bool here = i + 1 < n && x[i] == t->merges[best].left && x[i + 1] == t->merges[best].right;
                x[out] = here ? t->merges[best].result : x[i];
                i += here ? 2 : 1;
            }
            n = out;
        }
        total += n;
        at += length;
    }
    return total;
}

static void check_encoding(const tsr_tokenizer *t, const uint8_t *bytes, size_t size)
{
    int64_t *got, *expected = malloc((size + 1) * sizeof *expected), count;
    char *back;
    size_t back_size;
    const size_t n = encode_plainly(t, bytes, size, expected);
    assert_int_equal(tsr_tokenizer_encode(t, bytes, size, false, &got, &count), TSR_OK);
    assert_int_equal(count, n);
    assert_memory_equal(got, expected, n * sizeof *got);
    assert_int_equal(tsr_tokenizer_decode(t, got, count, &back, &back_size), TSR_OK);
    assert_int_equal(back_size, size);
    assert_memory_equal(back, bytes, size);
    assert_int_equal(back[size], 0);
    tsr_tokenizer_free(back);
    tsr_tokenizer_free(got);
    free(expected);
}

static void encodes_as_the_plain_way(void **state)
{
    static uint8_t bytes[6000], run[997];
    (void)state;
    for (uint32_t seed = 1; seed <= 3; seed++) {
        const size_t size = make_text(bytes, sizeof bytes, seed);
        tsr_tokenizer *t = tsr_bpe_train(bytes, size, 400);
        assert_non_null(t);
        check_encoding(t, bytes, size);
        check_encoding(t, bytes, make_text(bytes, sizeof bytes, seed + 100));
        memset(run, 'a', sizeof run); /* overlapping pairs: from the left */
        check_encoding(t, run, sizeof run);
        tsr_tokenizer_destroy(t);
    }
}

/* Counts pairs afresh for each merge, word by word, with no table. */
static void learns_as_the_plain_way(void **state)
{
    static uint8_t bytes[1200];
    const size_t size = make_text(bytes, sizeof bytes, 9);
    (void)state;
    tsr_tokenizer *t = tsr_bpe_train(bytes, size, 310);
    assert_non_null(t);
    assert_int_equal(t->count, 310);
    assert_int_equal(t->merge_count, 310 - 257);

    static uint32_t tokens[sizeof bytes], word_of[sizeof bytes];
    size_t n = 0, word = 0;
    for (size_t at = 0; at < size; word++) {
        const size_t length = word_length(bytes + at, size - at);
        for (size_t i = 0; i < length; i++, n++) {
            tokens[n] = t->of_byte[bytes[at + i]];
            word_of[n] = (uint32_t)word;
        }
        at += length;
    }
    for (uint32_t m = 0; m < t->merge_count; m++) {
        uint32_t left = 0, right = 0, most = 0;
        for (size_t i = 0; i + 1 < n; i++) {
            uint32_t count = 0;
            const uint32_t a = tokens[i], b = tokens[i + 1];
            if (word_of[i] != word_of[i + 1])
                continue;
            for (size_t k = 0; k + 1 < n; k++)
                count += word_of[k] == word_of[k + 1] && tokens[k] == a && tokens[k + 1] == b;
            if (count > most || (count == most && (a < left || (a == left && b < right)))) {
                most = count;
                left = a;
                right = b;
            }
        }
        assert_true(most >= 2);
        assert_int_equal(t->merges[m].left, left);
        assert_int_equal(t->merges[m].right, right);
        size_t out = 0;
        for (size_t i = 0; i < n; out++) {
            const bool here = i + 1 < n && word_of[i] == word_of[i + 1] && tokens[i] == left && tokens[i + 1] == right;
            word_of[out] = word_of[i];
            tokens[out] = here ? t->merges[m].result : tokens[i];
            i += here ? 2 : 1;
        }
        n = out;
    }
    tsr_tokenizer_destroy(t);
}

static void learns_what_there_is(void **state)
{
    (void)state;
    /* (a, a) three times in four words of "aaa" … as pairs: aaa has two, so 4 · 2; then (aa, a) four times; nothing is left. */
    tsr_tokenizer *t = tsr_bpe_train("aaa!aaa!aaa!aaa", 15, 1000);
    assert_non_null(t);
    assert_int_equal(tsr_tokenizer_vocabulary(t), 256 + 2 + 1);
    assert_int_equal(tsr_tokenizer_special(t, "<|endoftext|>"), 258);
    assert_int_equal(tsr_tokenizer_special(t, "<|end|>"), -1);
    char *bytes;
    assert_int_equal(tsr_tokenizer_decode(t, (const int64_t[]){257, 256, 0, 258}, 4, &bytes, NULL), TSR_OK);
    assert_string_equal(bytes, "aaaaa!<|endoftext|>"); /* GPT-2's token 0 is '!' */
    tsr_tokenizer_free(bytes);
    assert_int_equal(tsr_tokenizer_decode(t, (const int64_t[]){259}, 1, &bytes, NULL), TSR_OUT_OF_RANGE);
    assert_int_equal(tsr_tokenizer_decode(t, (const int64_t[]){-1}, 1, &bytes, NULL), TSR_OUT_OF_RANGE);
    assert_null(bytes);
    tsr_tokenizer_destroy(t);

    t = tsr_bpe_train(NULL, 0, 257);
    assert_int_equal(tsr_tokenizer_vocabulary(t), 257);
    int64_t *tokens, count;
    assert_int_equal(tsr_tokenizer_encode(t, "", 0, true, &tokens, &count), TSR_OK);
    assert_true(tokens == NULL && count == 0);
    tsr_tokenizer_destroy(t);

    assert_null(tsr_bpe_train("a", 1, 256));
    assert_int_equal(tsr_last_status(), TSR_OUT_OF_RANGE);
    assert_null(tsr_bpe_train("a", 1, TOKENS_MAX + 1));
    assert_null(tsr_bpe_train(NULL, 1, 300));
    assert_int_equal(tsr_last_status(), TSR_INVALID_ARGUMENT);
}

static void specials_are_wanted_or_text(void **state)
{
    static const char text_with[] = "a<|endoftext|>b<|endo";
    int64_t *tokens, count;
    (void)state;
    tsr_tokenizer *t = tsr_bpe_train("", 0, 257), *bytes = tsr_tokenizer_bytes();
    assert_int_equal(tsr_tokenizer_encode(t, text_with, strlen(text_with), true, &tokens, &count), TSR_OK);
    assert_int_equal(count, 3 + 6);
    assert_true(tokens[0] == t->of_byte['a'] && tokens[1] == 256 && tokens[2] == t->of_byte['b']);
    tsr_tokenizer_free(tokens);
    assert_int_equal(tsr_tokenizer_encode(t, text_with, strlen(text_with), false, &tokens, &count), TSR_OK);
    assert_int_equal(count, strlen(text_with));
    tsr_tokenizer_free(tokens);

    assert_int_equal(tsr_tokenizer_vocabulary(bytes), 256);
    assert_int_equal(tsr_tokenizer_encode(bytes, text_with, strlen(text_with), true, &tokens, &count), TSR_OK);
    assert_int_equal(count, strlen(text_with));
    for (int64_t i = 0; i < count; i++)
        assert_int_equal(tokens[i], text_with[i]);
    tsr_tokenizer_free(tokens);
    tsr_tokenizer_destroy(bytes);
    tsr_tokenizer_destroy(t);
    tsr_clear_error();
    assert_int_equal(tsr_tokenizer_encode(NULL, "a", 1, false, &tokens, &count), TSR_INVALID_ARGUMENT);
}

/* ---- files ---- */

static void saves_and_loads(void **state)
{
    static uint8_t bytes[6000];
    const size_t size = make_text(bytes, sizeof bytes, 4);
    const char *vocab = path_in_folder("vocab.json"), *merges = path_in_folder("merges.txt");
    (void)state;
    tsr_tokenizer *t = tsr_bpe_train(bytes, size, 500);
    assert_non_null(t);
    assert_int_equal(tsr_bpe_save(t, vocab, merges), TSR_OK);
    tsr_tokenizer *u = tsr_bpe_load(vocab, merges);
    assert_non_null(u);
    assert_int_equal(u->count, t->count);
    assert_int_equal(u->bytes.length, t->bytes.length);
    assert_memory_equal(u->bytes.bytes, t->bytes.bytes, t->bytes.length);
    assert_memory_equal(u->ends, t->ends, t->count * sizeof *t->ends);
    assert_memory_equal(u->of_byte, t->of_byte, sizeof t->of_byte);
    assert_int_equal(u->merge_count, t->merge_count);
    assert_memory_equal(u->merges, t->merges, t->merge_count * sizeof *t->merges);
    assert_int_equal(tsr_tokenizer_special(u, "<|endoftext|>"), t->count - 1);
    check_encoding(u, bytes, size);
    tsr_tokenizer_destroy(u);
    tsr_tokenizer_destroy(t);
    assert_null(tsr_bpe_load(path_in_folder("none.json"), merges));
    assert_int_equal(tsr_last_status(), TSR_NOT_FOUND);
}

/* A vocabulary of the bytes and `more`. */
static void write_vocab(text *out, const char *more)
{
    uint8_t order[256];
    bytes_by_character(order);
    text_append(out, "{");
    for (int i = 0; i < 256; i++) {
        char character[5] = "";
        utf8_write(byte_character(order[i]), character);
        text_appendf(out, "\"%s%s\":%d,", character[0] == '"' || character[0] == '\\' ? "\\" : "", character, i);
    }
    out->length--; /* the last comma */
    out->bytes[out->length] = '\0';
    text_appendf(out, "%s}", more);
}

static void takes_files_by_hand(void **state)
{
    text vocab = {0};
    (void)state;
    write_vocab(&vocab, ",\"ab\":256,\"<|x|>\":257,\"\xC4\xA0"
                        "ab\":258,\"<|x|>y\":259");
    static const char merges[] = "#version: 0.2\r\na b\r\n\r\n\xC4\xA0 ab";
    tsr_tokenizer *t = bpe_parse("v", vocab.bytes, vocab.length, "m", merges, strlen(merges));
    assert_non_null(t);
    static const char sample[] = "ab ab<|x|>y<|x|>";
    static const int64_t expected[] = {256, 258, 259, 257};
    int64_t *tokens, count;
    assert_int_equal(tsr_tokenizer_encode(t, sample, strlen(sample), true, &tokens, &count), TSR_OK);
    assert_int_equal(count, COUNT_OF(expected));
    assert_memory_equal(tokens, expected, sizeof expected);
    tsr_tokenizer_free(tokens);
    tsr_tokenizer_destroy(t);
    text_free(&vocab);
}

/* All places of a merge come before a more urgent one that they make possible. With (abc, a) after (a, bc), a list in the order of places alone
 * would give abca bc. */
static void merges_all_places_at_once(void **state)
{
    text vocab = {0};
    int64_t *tokens, count;
    (void)state;
    write_vocab(&vocab, ",\"bc\":256,\"abc\":257,\"abca\":258,\"ab\":259");
    static const char merges[] = "b c\nabc a\na bc\na b\nab c";
    tsr_tokenizer *t = bpe_parse("v", vocab.bytes, vocab.length, "m", merges, strlen(merges));
    assert_non_null(t);
    assert_int_equal(tsr_tokenizer_encode(t, "abcabc", 6, false, &tokens, &count), TSR_OK);
    assert_true(count == 2 && tokens[0] == 257 && tokens[1] == 257);
    tsr_tokenizer_free(tokens);
    check_encoding(t, (const uint8_t *)"abcabcaabc", 10);
    tsr_tokenizer_destroy(t);
    text_free(&vocab);
}

static void refuses_bad_files(void **state)
{
    static const struct {
        const char *vocab, *more, *merges, *message; /* vocab NULL: the bytes and `more` */
    } rows[] = {
        {"", "", "", "v is no JSON"},
        {"[1]", "", "", "v is no JSON object of tokens"},
        {"{}", "", "", "v has no token for byte 0"},
        {"{\"a\":0,\"a\":1}", "", "", "duplicate"},
        {"{\"a\":1}", "", "", "the number of token 'a' is not one of 0 to 0"},
        {"{\"a\":-1}", "", "", "the number of token 'a' is not one of 0 to 0"},
        {"{\"a\":\"0\"}", "", "", "the number of token 'a' is not"},
        {"{\"a\":0.5}", "", "", "the number of token 'a' is not"},
        {"{\"a\":0,\"b\":0}", "", "", "tokens 'a' and 'b' both have number 0"},
        {"{\"\":0}", "", "", "a token is empty"},
        {NULL, "", "a b", "m: line 1: v has no token 'ab'"},
        {NULL, ",\"ab\":256", "#version\nq ab", "m: line 2: v has no token 'qab'"},
        {NULL, ",\"ab\":256", "xy b", "m: line 1: v has no token 'xy'"},
        {NULL, ",\"ab\":256", "a xy", "m: line 1: v has no token 'xy'"},
        {NULL, ",\"ab\":256", "a b\na b", "m: line 2: 'a b' stands there twice"},
        {NULL, ",\"ab\":256", "ab", "m: line 1 is not two tokens"},
        {NULL, ",\"ab\":256", "a ", "m: line 1 is not two tokens"},
        {NULL, ",\"ab\":256", " b", "m: line 1 is not two tokens"},
        {NULL, ",\"ab\":256", "a b c", "m: line 1 is not two tokens"},
        {NULL, ",\"\xE6\x97\xA5\":256,\"a\xE6\x97\xA5\":257", "a \xE6\x97\xA5", "stands for no byte"},
    };
    (void)state;
    const int64_t live = host_live_allocations();
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        text vocab = {0};
        if (rows[i].vocab == NULL)
            write_vocab(&vocab, rows[i].more);
        else
            text_append(&vocab, rows[i].vocab);
        tsr_clear_error();
        assert_null(bpe_parse("v", vocab.bytes, vocab.length, "m", rows[i].merges, strlen(rows[i].merges)));
        assert_int_equal(tsr_last_status(), TSR_CORRUPT_DATA);
        if (strstr(tsr_last_error(), rows[i].message) == NULL)
            print_error("row %zu: \"%s\" in place of \"%s\"\n", i, tsr_last_error(), rows[i].message);
        assert_non_null(strstr(tsr_last_error(), rows[i].message));
        text_free(&vocab);
    }
    assert_true(bpe_parse("v", "{}", 2, "m", "a\0b c", 5) == NULL);
    text vocab = {0}, many = {0};
    for (int i = 0; i <= SPECIALS_MAX; i++)
        text_appendf(&many, ",\"ab%d\":%d", i, 256 + i);
    write_vocab(&vocab, many.bytes);
    assert_null(bpe_parse("v", vocab.bytes, vocab.length, "m", "", 0));
    assert_non_null(strstr(tsr_last_error(), "do they belong together"));
    assert_null(bpe_parse("v", vocab.bytes, vocab.length, "m", "a\0q b", 5));
    assert_non_null(strstr(tsr_last_error(), "m: line 1 is not two tokens"));
    text_free(&vocab);
    text_free(&many);
    assert_int_equal(host_live_allocations(), live);
}

/* Each allocation fails once: an error, and nothing is left. */
static void survives_want_of_memory(void **state)
{
    static uint8_t bytes[400];
    const size_t size = make_text(bytes, sizeof bytes, 2);
    const int64_t live = host_live_allocations();
    text vocab = {0};
    (void)state;
    write_vocab(&vocab, ",\"ab\":256,\"x\\n\":257");
    int failures = 0;
    for (int64_t n = 0;; n++) {
        int64_t *tokens = NULL, count;
        char *back = NULL;
        host_alloc_fail_after(n);
        tsr_tokenizer *t = tsr_bpe_train(bytes, size, 280),
                      *u = bpe_parse("v", vocab.bytes, vocab.length, "m", "a b", 3);
        const bool good = t != NULL && u != NULL &&
                          tsr_tokenizer_encode(t, bytes, size, true, &tokens, &count) == TSR_OK &&
                          tsr_tokenizer_decode(t, tokens, count, &back, NULL) == TSR_OK;
        host_alloc_fail_after(-1);
        if (!good) {
            assert_int_equal(tsr_last_status(), TSR_OUT_OF_MEMORY);
            failures++;
        }
        tsr_tokenizer_free(tokens);
        tsr_tokenizer_free(back);
        tsr_tokenizer_destroy(t);
        tsr_tokenizer_destroy(u);
        if (good)
            break;
    }
    assert_true(failures > 20);
    text_free(&vocab);
    assert_int_equal(host_live_allocations(), live);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(splits_as_the_pattern_does),
        cmocka_unit_test(knows_characters),
        cmocka_unit_test(encodes_as_the_plain_way),
        cmocka_unit_test(learns_as_the_plain_way),
        cmocka_unit_test(learns_what_there_is),
        cmocka_unit_test(specials_are_wanted_or_text),
        cmocka_unit_test(saves_and_loads),
        cmocka_unit_test(takes_files_by_hand),
        cmocka_unit_test(merges_all_places_at_once),
        cmocka_unit_test(refuses_bad_files),
        cmocka_unit_test(survives_want_of_memory),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
