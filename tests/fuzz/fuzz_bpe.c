/* libFuzzer: any bytes as the two files of a byte-pair encoding, up to a 0 byte the vocabulary (where the first byte is odd, what follows that of the
 * bytes), then the merges. Whatever is taken encodes the input itself, and decodes it to the same bytes. */
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "base/unicode.h"
#include "data/tokenizer.h"
#include "data/words.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void append_bytes(text *vocab)
{
    for (int i = 0; i < 256; i++) {
        char name[5] = "";
        utf8_write(byte_character((uint8_t)i), name);
        text_appendf(vocab, "%s\"%s%s\":%d", i == 0 ? "{" : ",", name[0] == '"' || name[0] == '\\' ? "\\" : "", name,
                     i);
    }
}

static void round_trip(const tsr_tokenizer *t, const uint8_t *bytes, size_t size, bool specials)
{
    int64_t *tokens, count;
    char *back;
    size_t length;
    if (tsr_tokenizer_encode(t, bytes, size, specials, &tokens, &count) != TSR_OK ||
        tsr_tokenizer_decode(t, tokens, count, &back, &length) != TSR_OK || length != size ||
        (size > 0 && memcmp(back, bytes, size) != 0))
        abort();
    tsr_tokenizer_free(tokens);
    tsr_tokenizer_free(back);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (size == 0)
        return 0;
    const uint8_t *end = memchr(bytes + 1, 0, size - 1);
    const uint8_t *merges = end == NULL ? bytes + size : end + 1;
    text vocab = {0};
    if ((bytes[0] & 1) != 0)
        append_bytes(&vocab);
    text_append_bytes(&vocab, bytes + 1, (size_t)((end == NULL ? bytes + size : end) - bytes - 1));
    tsr_tokenizer *t =
        bpe_parse("vocab", text_string(&vocab), vocab.length, "merges", merges, (size_t)(bytes + size - merges));
    if (t == NULL && tsr_last_error()[0] == '\0')
        abort();
    if (t != NULL) {
        round_trip(t, bytes, size, false);
        round_trip(t, bytes, size, true);
    }
    tsr_tokenizer_destroy(t);
    text_free(&vocab);

    /* And a vocabulary learnt from the input. */
    t = tsr_bpe_train(bytes, size, 257 + bytes[0] % 32);
    if (t == NULL)
        abort();
    round_trip(t, bytes, size, false);
    tsr_tokenizer_destroy(t);
    return 0;
}
