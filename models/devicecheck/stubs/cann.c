/* CANN: one Atlas A2 with 8 devices of 32 GiB, whose memory is the host's. */
#include "common.h"

const char *aclrtGetSocName() { const char *name = getenv("DEVICECHECK_SOC"); return name ? name : "Ascend910B1"; }
int aclrtGetDevice(int *device) { *device = 0; return 0; }
int aclrtGetDeviceCount(unsigned *count) { *count = 8; return 0; }
int aclrtGetMemInfo(int kind, size_t *available, size_t *total) { *available = *total = 32ul << 30; return 0; }
const char *aclGetRecentErrMsg() { return ""; }

int aclrtMalloc(void **memory, size_t size, int policy) { return (*memory = host_memory(size)) == 0; }
int aclrtMallocHost(void **memory, size_t size) { return (*memory = host_memory(size)) == 0; }
int aclrtFree(void *memory) { free(memory); return 0; }
int aclrtFreeHost(void *memory) { free(memory); return 0; }
int aclrtMemcpy(void *to, size_t room, const void *from, size_t size, int kind) { memcpy(to, from, size); return 0; }
int aclrtMemcpyAsync(void *to, size_t room, const void *from, size_t size, int kind, void *stream)
{
    memcpy(to, from, size);
    return 0;
}

RETURNS_HANDLE(aclCreateTensor)
RETURNS_HANDLE(aclCreateScalar)
RETURNS_HANDLE(aclCreateIntArray)
RETURNS_HANDLE(aclCreateFloatArray)
RETURNS_HANDLE(aclCreateBoolArray)
RETURNS_HANDLE(aclCreateTensorList)
RETURNS_HANDLE(aclopCreateAttr)
RETURNS_HANDLE(aclCreateTensorDesc)
RETURNS_HANDLE(aclCreateDataBuffer)
RETURNS_HANDLE(aclprofCreateConfig)
STORES_HANDLE(aclrtCreateStream)
STORES_HANDLE(aclrtCreateStreamWithConfig)
STORES_HANDLE(aclrtCreateEventExWithFlag)
STORES_HANDLE(aclrtCreateEventWithFlag)
STORES_HANDLE(aclrtCreateContext)
STORES_HANDLE(aclrtGetCurrentContext)

/* what MindSpore's Python calls for parallel.all_reduce_fusion_config */
int HcomSetGradFusionByIndex() { return 0; }
int HcomSetGradFusionBySize() { return 0; }

/* ge::StatusFactory::Instance(): an object whose first member is a std::map, empty as libstdc++ lays it out. */
static struct status_factory { long compare, colour; void *root, *first, *last; size_t count; } status_factory =
    {0, 0, 0, &status_factory.colour, &status_factory.colour, 0};
void *_ZN2ge13StatusFactory8InstanceEv() { return &status_factory; }
