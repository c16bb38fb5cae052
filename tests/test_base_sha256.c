#include "unit.h"

#include "base/compiler.h"
#include "base/sha256.h"

#include <stdlib.h>
#include <string.h>

/* FIPS 180-2, appendix B, and NIST's further examples. */
static void known_digests(void **state)
{
    static const struct {
        const char *message, *digest;
    } rows[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
        {"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqr"
         "stu",
         "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char hex[SHA256_HEX_SIZE];
        sha256_of(rows[i].message, strlen(rows[i].message), hex);
        assert_string_equal(hex, rows[i].digest);
    }
}

static void a_million_letters(void **state)
{
    char hex[SHA256_HEX_SIZE];
    char *message = malloc(1000000);
    (void)state;
    memset(message, 'a', 1000000);
    sha256_of(message, 1000000, hex);
    free(message);
    assert_string_equal(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

/* The digest does not depend on how the message is cut; all lengths around the block and padding bounds. */
static void pieces(void **state)
{
    uint8_t message[300];
    (void)state;
    for (size_t i = 0; i < sizeof message; i++)
        message[i] = (uint8_t)(i * 7 + 3);
    for (size_t length = 0; length <= sizeof message; length++) {
        char whole[SHA256_HEX_SIZE];
        sha256_of(message, length, whole);
        for (size_t cut = 1; cut < 130; cut += 9) {
            char hex[SHA256_HEX_SIZE];
            sha256 hash;
            sha256_begin(&hash);
            for (size_t at = 0; at < length; at += cut)
                sha256_update(&hash, message + at, cut < length - at ? cut : length - at);
            sha256_update(&hash, NULL, 0);
            sha256_end_hex(&hash, hex);
            assert_string_equal(hex, whole);
        }
    }
    /* Computed with Python's hashlib from the same 300 bytes. */
    char hex[SHA256_HEX_SIZE];
    sha256_of(message, 300, hex);
    assert_string_equal(hex, "04773f8726c81cafcfa1a09a82664b98b00d2021031a1715bca1154f2dad3472");
    sha256_of(message, 55, hex);
    assert_string_equal(hex, "e7313d333c272e639f790978283f9eb392e843d0f29b7016828bb1daa4aac70b");
    sha256_of(message, 64, hex);
    assert_string_equal(hex, "39e3d7b6b5d075d37d053ad89b24b41bef4f3c29760c84447cab3f3be1882241");
}

static void strings_do_not_run_together(void **state)
{
    char a[SHA256_HEX_SIZE], b[SHA256_HEX_SIZE];
    sha256 hash;
    (void)state;
    sha256_begin(&hash);
    sha256_update_string(&hash, "ab");
    sha256_update_string(&hash, "c");
    sha256_end_hex(&hash, a);
    sha256_begin(&hash);
    sha256_update_string(&hash, "a");
    sha256_update_string(&hash, "bc");
    sha256_end_hex(&hash, b);
    assert_string_not_equal(a, b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_digests),
        cmocka_unit_test(a_million_letters),
        cmocka_unit_test(pieces),
        cmocka_unit_test(strings_do_not_run_together),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
