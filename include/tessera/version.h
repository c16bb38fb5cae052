/* The library's version: MAJOR.MINOR.PATCH (semantic versioning; before 1.0 a minor version may break the interface). */
#ifndef TESSERA_VERSION_H
#define TESSERA_VERSION_H

#include "tessera/status.h"

#define TSR_VERSION_MAJOR 0
#define TSR_VERSION_MINOR 1
#define TSR_VERSION_PATCH 0

#ifdef __cplusplus
extern "C" {
#endif

/* Of the library that runs, "0.1.0"; the macros are those it was compiled against. */
TSR_API const char *tsr_version(void);

#ifdef __cplusplus
}
#endif
#endif
