/* SHA-256 (FIPS 180-4). */
#ifndef TESSERA_BASE_SHA256_H
#define TESSERA_BASE_SHA256_H

#include <stddef.h>
#include <stdint.h>

enum { SHA256_SIZE = 32, SHA256_HEX_SIZE = 65 };

typedef struct sha256 {
    uint32_t state[8];
    uint64_t length; /* bytes so far */
    uint8_t block[64];
} sha256;

/* begin, update as often as you like, end. */
void sha256_begin(sha256 *hash);
void sha256_update(sha256 *hash, const void *bytes, size_t size);
void sha256_end(sha256 *hash, uint8_t digest[SHA256_SIZE]);

/* 64 lower-case hexadecimal digits and a final 0. */
void sha256_hex(const uint8_t digest[SHA256_SIZE], char hex[SHA256_HEX_SIZE]);

/* end and hex in one. */
void sha256_end_hex(sha256 *hash, char hex[SHA256_HEX_SIZE]);

/* Of one piece of memory. */
void sha256_of(const void *bytes, size_t size, char hex[SHA256_HEX_SIZE]);

/* Adds a string with its length before it, so that keys made of several strings cannot run into each other. */
void sha256_update_string(sha256 *hash, const char *string);

#endif
