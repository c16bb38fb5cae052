#include "unit.h"

#include "base/cache.h"
#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/sha256.h"
#include "base/thread.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[PATH_SIZE];
static char key[SHA256_HEX_SIZE], other_key[SHA256_HEX_SIZE];

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/tessera-test-XXXXXX");
    if (mkdtemp(folder) == NULL)
        return -1;
    sha256_of("one", 3, key);
    sha256_of("two", 3, other_key);
    return 0;
}

static int remove_folder(void **state)
{
    char command[PATH_SIZE + 16];
    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

static int begin(void **state)
{
    char path[PATH_SIZE];
    (void)state;
    path_join(path, sizeof path, folder, "cache");
    setenv("TESSERA_CACHE_DIR", path, 1);
    cache_reset();
    return 0;
}

static void check_counters(uint64_t hits, uint64_t misses, uint64_t stores)
{
    const cache_counters counters = cache_statistics();
    assert_int_equal(counters.hits, hits);
    assert_int_equal(counters.misses, misses);
    assert_int_equal(counters.stores, stores);
}

static void keeps_blobs_apart(void **state)
{
    uint8_t *bytes;
    size_t size;
    (void)state;

    assert_false(cache_load("programs", key, &bytes, &size));
    assert_null(bytes);
    cache_store("programs", key, "one\0binary", 10);
    cache_store("programs", other_key, "", 0);
    cache_store("tuning", key, "tuned", 5);

    assert_true(cache_load("programs", key, &bytes, &size));
    assert_int_equal(size, 10);
    assert_memory_equal(bytes, "one\0binary\0", 11);
    host_free(bytes);
    assert_true(cache_load("programs", other_key, &bytes, &size));
    assert_int_equal(size, 0);
    host_free(bytes);
    assert_true(cache_load("tuning", key, &bytes, &size));
    assert_int_equal(size, 5);
    host_free(bytes);
    assert_false(cache_load("tuning", other_key, &bytes, &size));

    cache_store("programs", key, "newer", 5);
    assert_true(cache_load("programs", key, &bytes, &size));
    assert_int_equal(size, 5);
    assert_memory_equal(bytes, "newer", 5);
    host_free(bytes);
    check_counters(4, 2, 4);
    assert_null(cache_problem());
}

/* Every byte of the file changed in turn, every truncation, and trailing garbage: never a hit. */
static void ignores_damage(void **state)
{
    char path[PATH_SIZE];
    uint8_t *file, *bytes;
    size_t file_size, size;
    (void)state;

    cache_store("programs", key, "payload", 7);
    path_join(path, sizeof path, folder, "cache/programs");
    path_join(path, sizeof path, path, key);
    assert_int_equal(file_read_all(path, &file, &file_size, SIZE_MAX), TSR_OK);
    assert_int_equal(file_size, 8 + 8 + 32 + 7);

    fail(TSR_UNSUPPORTED, "an earlier failure");
    for (size_t i = 0; i < file_size; i++) {
        file[i] ^= 0x10;
        assert_int_equal(file_write_pieces(path, &(file_piece){file, file_size}, 1, false), TSR_OK);
        assert_false(cache_load("programs", key, &bytes, &size));
        assert_null(bytes);
        file[i] ^= 0x10;
        assert_int_equal(file_write_pieces(path, &(file_piece){file, i}, 1, false), TSR_OK);
        assert_false(cache_load("programs", key, &bytes, &size));
    }
    assert_int_equal(file_write_pieces(path, (file_piece[]){{file, file_size}, {"x", 1}}, 2, false), TSR_OK);
    assert_false(cache_load("programs", key, &bytes, &size));
    assert_string_equal(tsr_last_error(), "an earlier failure");

    cache_store("programs", key, "again", 5);
    assert_true(cache_load("programs", key, &bytes, &size));
    assert_memory_equal(bytes, "again", 5);
    host_free(bytes);
    host_free(file);
}

/* A name that would lead out of the folder, or no digest, is never touched. */
static void refuses_bad_names(void **state)
{
    static const char *const kinds[] = {"", "..", "a/b", "/tmp", "Programs"};
    uint8_t *bytes;
    size_t size;
    (void)state;
    for (size_t i = 0; i < COUNT_OF(kinds); i++) {
        cache_store(kinds[i], key, "x", 1);
        assert_false(cache_load(kinds[i], key, &bytes, &size));
    }
    cache_store("programs", "../../escaped", "x", 1);
    cache_store("programs", "abc", "x", 1);
    assert_false(cache_load("programs", "abc", &bytes, &size));
    check_counters(0, 6, 0);
}

static void an_unwritable_folder_is_told_once(void **state)
{
    char path[PATH_SIZE];
    uint8_t *bytes;
    size_t size;
    (void)state;

    /* Below a plain file nobody can make a folder, not even root. */
    path_join(path, sizeof path, folder, "plain");
    assert_int_equal(file_write_atomic(path, "x", 1), TSR_OK);
    path_join(path, sizeof path, path, "cache");
    setenv("TESSERA_CACHE_DIR", path, 1);

    tsr_clear_error();
    cache_store("programs", key, "x", 1);
    assert_false(cache_load("programs", key, &bytes, &size));
    assert_string_equal(tsr_last_error(), "");
    check_counters(0, 1, 0);

    const char *problem = cache_problem();
    assert_non_null(problem);
    assert_non_null(strstr(problem, path));
    assert_non_null(strstr(problem, "Not a directory"));
    assert_non_null(strstr(problem, "TESSERA_CACHE_DIR"));
    assert_ptr_equal(cache_problem(), problem);

    /* Asked before anything was stored it knows as well. */
    cache_reset();
    assert_non_null(cache_problem());
    cache_reset();
    setenv("TESSERA_CACHE_DIR", folder, 1);
    assert_null(cache_problem());
}

static void works_without_memory(void **state)
{
    uint8_t *bytes;
    size_t size;
    const int64_t before = host_live_allocations();
    (void)state;
    cache_store("programs", key, "payload", 7);
    tsr_clear_error();
    host_alloc_fail_after(0);
    assert_false(cache_load("programs", key, &bytes, &size));
    cache_store("programs", key, "payload", 7); /* needs none */
    host_alloc_fail_after(-1);
    assert_string_equal(tsr_last_error(), "");
    assert_int_equal(host_live_allocations(), before);
    check_counters(0, 1, 2);
}

/* Writers and readers of one key: a reader sees one whole blob or the other. */
static void use_together(void *context, size_t index, int worker)
{
    static uint8_t blobs[2][5000];
    atomic_int *wrong = context;
    uint8_t *bytes;
    size_t size;
    (void)worker;

    cache_store("shared", key, blobs[index % 2], 4000 + 1000 * (index % 2));
    if (!cache_load("shared", key, &bytes, &size) || (size != 4000 && size != 5000))
        atomic_fetch_add(wrong, 1);
    host_free(bytes);
}

static void is_safe_from_threads(void **state)
{
    atomic_int wrong = 0;
    thread_pool *pool = thread_pool_create(4);
    (void)state;
    thread_pool_run(pool, use_together, &wrong, 200);
    assert_int_equal(atomic_load(&wrong), 0);
    check_counters(200, 0, 200);
    thread_pool_destroy(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(keeps_blobs_apart, begin),
        cmocka_unit_test_setup(ignores_damage, begin),
        cmocka_unit_test_setup(refuses_bad_names, begin),
        cmocka_unit_test_setup(an_unwritable_folder_is_told_once, begin),
        cmocka_unit_test_setup(works_without_memory, begin),
        cmocka_unit_test_setup(is_safe_from_threads, begin),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
