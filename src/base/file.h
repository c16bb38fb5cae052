/* Files and paths. Messages name the path and the system's reason. */
#ifndef TESSERA_BASE_FILE_H
#define TESSERA_BASE_FILE_H

#include <tessera/status.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PATH_SIZE = 4096 }; /* of a buffer that holds any usual path */

/* The whole file in memory to host_free, with a 0 byte (not counted in *size) after it. A file of more than `limit`
 * bytes (SIZE_MAX: no limit) is TSR_OUT_OF_RANGE; no such file TSR_NOT_FOUND. On failure *bytes is NULL. */
tsr_status file_read_all(const char *path, uint8_t **bytes, size_t *size, size_t limit);

/* A regular file open for reads at any place. */
typedef struct file_reader file_reader;
/* *size is its length now. TSR_NOT_FOUND where there is none, TSR_IO_ERROR also for what is no regular file. */
tsr_status file_reader_open(const char *path, file_reader **reader, uint64_t *size);
/* Exactly `size` bytes from `offset` on; TSR_CORRUPT_DATA where the file has become shorter. */
tsr_status file_reader_at(const file_reader *reader, uint64_t offset, void *bytes, size_t size);
void file_reader_close(file_reader *reader); /* NULL is fine */

/* A regular file's contents in memory, for reading; pages come from the disk as they are touched. The file must keep its length as long: touching
 * what is gone ends the process. Errors: TSR_NOT_FOUND; TSR_IO_ERROR, also for a file that is empty or no regular one. */
typedef struct file_mapping file_mapping;
tsr_status file_map(const char *path, file_mapping **mapping, const void **bytes, uint64_t *size);
void file_unmap(file_mapping *mapping); /* NULL is fine */

/* Makes room for a new file at `path`: what is there stays, and gets the second name path.1; what had that becomes
 * path.2, and so on up to path.(keep - 1), beyond which files are removed. With keep 1, or no file, nothing happens. */
tsr_status file_rotate(const char *path, int keep);

/* Puts a file of exactly this content at `path`, or leaves what was there: written beside it under another name, synced
 * to the disk, and renamed. A symbolic link is followed. What is no regular file (/dev/stdout) is written to. */
tsr_status file_write_atomic(const char *path, const void *bytes, size_t size);

/* The same from several pieces. With durable false nothing is synced: after a power cut the file may be short or
 * empty, which suits only what is checked when read. */
typedef struct file_piece {
    const void *bytes;
    size_t size;
} file_piece;
tsr_status file_write_pieces(const char *path, const file_piece *pieces, size_t count, bool durable);

/* Whether there is anything at `path`, a folder too. */
bool file_exists(const char *path);

/* Makes the folder and those above it that are missing. */
tsr_status file_make_dirs(const char *path);

/* "folder/name" in out (capacity bytes), without doubling a slash; `name` alone if folder is "" or name is absolute.
 * TSR_OUT_OF_RANGE, and out "", if it does not fit. out may be folder itself. */
tsr_status path_join(char *out, size_t capacity, const char *folder, const char *name);

/* Cuts the last component off, in place: "/a/b" -> "/a", "/a" -> "/", "a" -> ".". */
void path_parent(char *path);

/* The absolute path of the running program, symbolic links resolved; data is found relative to it. */
tsr_status path_of_executable(char *out, size_t capacity);

/* The same of the file that this code is in: the shared library, or the program that it is linked into. */
tsr_status path_of_library(char *out, size_t capacity);

/* The folder for caches: TESSERA_CACHE_DIR, else $XDG_CACHE_HOME/tessera, else ~/.cache/tessera. It may not exist yet.
 * TSR_NOT_FOUND if none of these variables nor the user's home folder is known. */
tsr_status cache_dir(char *out, size_t capacity);

#endif
