/* CIFAR-10's records from memory. */
#ifndef TESSERA_DATA_CIFAR10_H
#define TESSERA_DATA_CIFAR10_H

#include "data/dataset.h"

/* Adds a file's images behind those that are there already; path is for messages. What was added before an error stays the caller's to free. */
tsr_status cifar10_add_records(byte_images *images, const char *path, const uint8_t *bytes, size_t size);

#endif
