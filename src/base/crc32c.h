/* CRC-32C: Castagnoli's polynomial, reflected (RFC 3720, appendix B.4). */
#ifndef TESSERA_BASE_CRC32C_H
#define TESSERA_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

uint32_t crc32c(const void *bytes, size_t size);

#endif
