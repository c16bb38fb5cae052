/* The devices that a command line names: "cpu,opencl:0", "all". */
#ifndef TESSERA_DEVICE_LIST_H
#define TESSERA_DEVICE_LIST_H

#include "tessera/device.h"

enum { DEVICES_MAX = 64 };

typedef struct device_list {
    size_t count;
    tsr_device *device[DEVICES_MAX]; /* NULL where opening failed */
    tsr_device_info info[DEVICES_MAX];
    tsr_status status[DEVICES_MAX]; /* of opening */
    char error[DEVICES_MAX][512];   /* why it failed */
} device_list;

/* Opens them; NULL is $TESSERA_DEVICE or cpu. Not EXIT_DONE where there is no such device, which is a mistake of the command line
 * (the complaint, which names `flag`, is printed). One that is there and does not open has failed, and the others go on. */
int device_list_open(device_list *l, const char *flag, const char *list);
void device_list_close(device_list *l);

#endif
