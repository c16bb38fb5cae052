#include "unit.h"

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[PATH_SIZE];

static const char *in_folder(const char *name)
{
    static char paths[4][PATH_SIZE];
    static unsigned next;
    char *path = paths[next++ % 4];
    assert_int_equal(path_join(path, PATH_SIZE, folder, name), TSR_OK);
    return path;
}

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/tessera-test-XXXXXX");
    return mkdtemp(folder) == NULL;
}

static int remove_folder(void **state)
{
    char command[PATH_SIZE + 16];
    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

/* The number of names in a folder, "." and ".." not counted. */
static int names_in(const char *path)
{
    int count = 0;
    DIR *dir = opendir(path);
    assert_non_null(dir);
    while (readdir(dir) != NULL)
        count++;
    closedir(dir);
    return count - 2;
}

static void check_content(const char *path, const void *expected, size_t expected_size)
{
    uint8_t *bytes;
    size_t size;
    assert_int_equal(file_read_all(path, &bytes, &size, SIZE_MAX), TSR_OK);
    assert_int_equal(size, expected_size);
    assert_memory_equal(bytes, expected, size);
    assert_int_equal(bytes[size], 0);
    host_free(bytes);
}

static void writes_and_reads(void **state)
{
    const size_t size = 300000;
    uint8_t *data = malloc(size);
    (void)state;

    for (size_t i = 0; i < size; i++)
        data[i] = (uint8_t)(i * 31 >> 3);
    const char *path = in_folder("a file");
    assert_false(file_exists(path));
    assert_int_equal(file_write_atomic(path, data, size), TSR_OK);
    assert_true(file_exists(path));
    check_content(path, data, size);
    assert_int_equal(file_write_atomic(path, "short", 5), TSR_OK);
    check_content(path, "short", 5);
    assert_int_equal(file_write_atomic(path, NULL, 0), TSR_OK);
    check_content(path, "", 0);
    assert_int_equal(file_write_pieces(path, (const file_piece[]){{"mo", 2}, {"sa", 2}, {"ic", 2}}, 3, false), TSR_OK);
    check_content(path, "mosaic", 6);
    assert_int_equal(names_in(folder), 1);
    free(data);
}

static void obeys_the_umask(void **state)
{
    struct stat about;
    (void)state;
    const mode_t before = umask(027);
    assert_int_equal(file_write_atomic(in_folder("private"), "x", 1), TSR_OK);
    umask(before);
    assert_int_equal(stat(in_folder("private"), &about), 0);
    assert_int_equal(about.st_mode & 0777, 0640);
}

static void respects_the_limit(void **state)
{
    uint8_t *bytes;
    size_t size;
    (void)state;

    const char *path = in_folder("ten");
    assert_int_equal(file_write_atomic(path, "0123456789", 10), TSR_OK);
    assert_int_equal(file_read_all(path, &bytes, &size, 10), TSR_OK);
    assert_int_equal(size, 10);
    host_free(bytes);
    assert_int_equal(file_read_all(path, &bytes, &size, 9), TSR_OUT_OF_RANGE);
    assert_null(bytes);
    assert_int_equal(size, 0);
    assert_non_null(strstr(tsr_last_error(), path));
    /* No size is known here. */
    assert_int_equal(file_read_all("/dev/zero", &bytes, &size, 100000), TSR_OUT_OF_RANGE);
    assert_null(bytes);
    assert_int_equal(file_read_all("/dev/null", &bytes, &size, 0), TSR_OK);
    assert_int_equal(size, 0);
    host_free(bytes);
    assert_int_equal(file_read_all("/proc/self/status", &bytes, &size, SIZE_MAX), TSR_OK);
    assert_true(size > 100 && strlen((char *)bytes) == size);
    host_free(bytes);
}

static void names_what_is_missing(void **state)
{
    uint8_t *bytes;
    size_t size;
    (void)state;

    const char *path = in_folder("nothing here");
    assert_int_equal(file_read_all(path, &bytes, &size, SIZE_MAX), TSR_NOT_FOUND);
    assert_null(bytes);
    assert_non_null(strstr(tsr_last_error(), path));
    assert_int_equal(file_read_all(folder, &bytes, &size, SIZE_MAX), TSR_IO_ERROR);
    assert_non_null(strstr(tsr_last_error(), "Is a directory"));

    assert_int_equal(file_write_atomic(in_folder("no folder/file"), "x", 1), TSR_IO_ERROR);
    assert_non_null(strstr(tsr_last_error(), "no folder/file: No such file or directory"));
    assert_int_equal(file_write_atomic(folder, "x", 1), TSR_IO_ERROR);
    assert_non_null(strstr(tsr_last_error(), "it is a folder"));
}

static void a_full_disk_is_told(void **state)
{
    (void)state;
    assert_int_equal(file_write_atomic("/dev/full", "x", 1), TSR_IO_ERROR);
    assert_string_equal(tsr_last_error(), "cannot write /dev/full: No space left on device");
    assert_int_equal(file_write_atomic("/dev/null", "x", 1), TSR_OK);
    assert_true(file_exists("/dev/null"));
}

/* A write that breaks off leaves the old content and nothing else. In a child, for the limit is the process's. */
static void leaves_nothing_half_written(void **state)
{
    (void)state;
    assert_int_equal(file_make_dirs(in_folder("half")), TSR_OK);
    assert_int_equal(file_write_atomic(in_folder("half/file"), "old", 3), TSR_OK);

    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        static const char data[100000];
        signal(SIGXFSZ, SIG_IGN);
        if (setrlimit(RLIMIT_FSIZE, &(struct rlimit){5000, 5000}) != 0)
            _exit(2);
        const tsr_status status = file_write_atomic(in_folder("half/file"), data, sizeof data);
        _exit(status == TSR_IO_ERROR && strstr(tsr_last_error(), "File too large") != NULL ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    check_content(in_folder("half/file"), "old", 3);
    assert_int_equal(names_in(in_folder("half")), 1);
}

static void follows_links(void **state)
{
    struct stat about;
    (void)state;
    assert_int_equal(file_write_atomic(in_folder("target"), "old", 3), TSR_OK);
    assert_int_equal(symlink("target", in_folder("link")), 0);
    assert_int_equal(file_write_atomic(in_folder("link"), "new", 3), TSR_OK);
    check_content(in_folder("target"), "new", 3);
    assert_int_equal(lstat(in_folder("link"), &about), 0);
    assert_true(S_ISLNK(about.st_mode));
}

static void reads_without_memory(void **state)
{
    const int64_t before = host_live_allocations();
    uint8_t *bytes;
    size_t size;
    (void)state;
    for (int n = 0; n < 2; n++) {
        host_alloc_fail_after(n);
        const tsr_status status = file_read_all("/dev/zero", &bytes, &size, SIZE_MAX);
        host_alloc_fail_after(-1);
        assert_int_equal(status, TSR_OUT_OF_MEMORY);
        assert_null(bytes);
        assert_non_null(strstr(tsr_last_error(), "reading /dev/zero"));
    }
    assert_int_equal(host_live_allocations(), before);
}

static void makes_folders(void **state)
{
    (void)state;
    assert_int_equal(file_make_dirs(in_folder("x/y//z/")), TSR_OK);
    assert_true(file_exists(in_folder("x/y/z")));
    assert_int_equal(file_make_dirs(in_folder("x/y/z")), TSR_OK);
    assert_int_equal(file_make_dirs("/"), TSR_OK);
    assert_int_equal(file_write_atomic(in_folder("plain"), "x", 1), TSR_OK);
    assert_int_equal(file_make_dirs(in_folder("plain")), TSR_IO_ERROR);
    assert_non_null(strstr(tsr_last_error(), "plain: Not a directory"));
    assert_int_equal(file_make_dirs(in_folder("plain/below")), TSR_IO_ERROR);
    assert_int_equal(file_make_dirs(""), TSR_INVALID_ARGUMENT);
}

static void joins_paths(void **state)
{
    char out[16];
    (void)state;
    assert_int_equal(path_join(out, sizeof out, "a", "b"), TSR_OK);
    assert_string_equal(out, "a/b");
    assert_int_equal(path_join(out, sizeof out, out, "c"), TSR_OK);
    assert_string_equal(out, "a/b/c");
    assert_int_equal(path_join(out, sizeof out, "/", "b"), TSR_OK);
    assert_string_equal(out, "/b");
    assert_int_equal(path_join(out, sizeof out, "a/", "b"), TSR_OK);
    assert_string_equal(out, "a/b");
    assert_int_equal(path_join(out, sizeof out, "", "b"), TSR_OK);
    assert_string_equal(out, "b");
    assert_int_equal(path_join(out, sizeof out, "a", "/b"), TSR_OK);
    assert_string_equal(out, "/b");
    assert_int_equal(path_join(out, sizeof out, "1234567", "1234567"), TSR_OK);
    assert_string_equal(out, "1234567/1234567");
    assert_int_equal(path_join(out, sizeof out, "1234567", "12345678"), TSR_OUT_OF_RANGE);
    assert_string_equal(out, "");
}

static void finds_parents(void **state)
{
    static const char *const rows[][2] = {{"/a/b", "/a"}, {"/a", "/"},   {"a", "."},   {"a/b/c", "a/b"}, {"a/b/", "a"},
                                          {"/", "/"},     {"a//b", "a"}, {"/a/", "/"}, {"", ""},         {".", "."}};
    (void)state;
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        char path[16];
        strcpy(path, rows[i][0]);
        path_parent(path);
        assert_string_equal(path, rows[i][1]);
    }
}

static void knows_its_place(void **state)
{
    char path[PATH_SIZE], small[4];
    (void)state;
    assert_int_equal(path_of_executable(path, sizeof path), TSR_OK);
    assert_int_equal(path[0], '/');
    assert_int_equal(access(path, X_OK), 0);
    assert_non_null(strstr(path, "test_base_file"));
    assert_int_equal(path_of_executable(small, sizeof small), TSR_OUT_OF_RANGE);
    assert_string_equal(small, "");
}

static void finds_the_cache_folder(void **state)
{
    char path[PATH_SIZE], small[4];
    (void)state;

    setenv("TESSERA_CACHE_DIR", "/own", 1);
    setenv("XDG_CACHE_HOME", "/xdg", 1);
    setenv("HOME", "/home/someone", 1);
    assert_int_equal(cache_dir(path, sizeof path), TSR_OK);
    assert_string_equal(path, "/own");
    setenv("TESSERA_CACHE_DIR", "", 1);
    assert_int_equal(cache_dir(path, sizeof path), TSR_OK);
    assert_string_equal(path, "/xdg/tessera");
    setenv("XDG_CACHE_HOME", "relative", 1);
    assert_int_equal(cache_dir(path, sizeof path), TSR_OK);
    assert_string_equal(path, "/home/someone/.cache/tessera");
    assert_int_equal(cache_dir(small, sizeof small), TSR_OUT_OF_RANGE);
    unsetenv("HOME");
    unsetenv("XDG_CACHE_HOME");
    unsetenv("TESSERA_CACHE_DIR");
    if (cache_dir(path, sizeof path) == TSR_OK)
        assert_int_equal(path[0], '/');
    else
        assert_non_null(strstr(tsr_last_error(), "TESSERA_CACHE_DIR"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_and_reads),       cmocka_unit_test(obeys_the_umask),
        cmocka_unit_test(respects_the_limit),     cmocka_unit_test(names_what_is_missing),
        cmocka_unit_test(a_full_disk_is_told),    cmocka_unit_test(leaves_nothing_half_written),
        cmocka_unit_test(follows_links),          cmocka_unit_test(reads_without_memory),
        cmocka_unit_test(makes_folders),          cmocka_unit_test(joins_paths),
        cmocka_unit_test(finds_parents),          cmocka_unit_test(knows_its_place),
        cmocka_unit_test(finds_the_cache_folder),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
