/* Where the CUDA toolkit's libraries are looked for: they are installed in more ways than the driver. */
#ifndef TESSERA_CUDA_TOOLKIT_H
#define TESSERA_CUDA_TOOLKIT_H

#include "base/dynlib.h"

/* One file name for each generation of CUDA, the newest first, ended by { 0, NULL }. */
typedef struct toolkit_file {
    int generation; /* 13 */
    const char *name;
} toolkit_file;

/* Opens the first that loads, of the generation of `driver_version` (13000 for CUDA 13.0; 0: any) if there is one, because every
 * driver of a generation runs what that generation's libraries make, else the newest. Each is looked for where the loader looks
 * (LD_LIBRARY_PATH), in $CUDA_HOME, $CUDA_PATH, /usr/local/cuda, /usr/local/cuda-N.M and /opt/cuda; then the name without a
 * generation is. NULL after fail(), with the loader's reason only. */
dynlib *toolkit_open(const toolkit_file *files, const char *plain_name, int driver_version);

#endif
