/* The version of the running library. */
#include "tessera/version.h"

#define TEXT_(x) #x
#define TEXT(x)  TEXT_(x)

const char *tsr_version(void)
{
    return TEXT(TSR_VERSION_MAJOR) "." TEXT(TSR_VERSION_MINOR) "." TEXT(TSR_VERSION_PATCH);
}
