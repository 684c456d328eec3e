/* CUDA 11: one GPU of compute capability 8.0 with 16 GiB, whose memory is the host's. */
#include "common.h"

static int one(int *value) { *value = 1; return 0; }
static int some_bytes(size_t *size) { *size = 1024; return 0; }

int cudaGetDeviceCount(int *count) { return one(count); }
int cudaGetDevice(int *device) { *device = 0; return 0; }
int cudaRuntimeGetVersion(int *version) { *version = STUB_CUDA_VERSION; return 0; }
int cudaDriverGetVersion(int *version) { *version = STUB_CUDA_VERSION; return 0; }
int cudaDeviceGetAttribute(int *value, int attribute, int device) { *value = 64; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) { *value = 64; return 0; }

static void set_int(char *properties, int offset, int value) { memcpy(properties + offset, &value, 4); }
static void set_size(char *properties, int offset, size_t value) { memcpy(properties + offset, &value, 8); }
int cudaGetDeviceProperties(char *properties, int device)
{
    memset(properties, 0, 712);              /* sizeof(cudaDeviceProp) of CUDA 11 */
    strcpy(properties, "stub of a GPU");
    set_size(properties, 288, 16ul << 30);   /* totalGlobalMem */
    set_size(properties, 296, 49152);        /* sharedMemPerBlock */
    set_int(properties, 304, 65536);         /* regsPerBlock */
    set_int(properties, 308, 32);            /* warpSize */
    set_size(properties, 312, 1ul << 31);    /* memPitch */
    set_int(properties, 320, 1024);          /* maxThreadsPerBlock, then maxThreadsDim */
    set_int(properties, 324, 1024);
    set_int(properties, 328, 1024);
    set_int(properties, 332, 64);
    set_int(properties, 336, 2147483647);    /* maxGridSize */
    set_int(properties, 340, 65535);
    set_int(properties, 344, 65535);
    set_int(properties, 360, 8);             /* major, minor */
    set_int(properties, 364, 0);
    set_int(properties, 388, 108);           /* multiProcessorCount */
    return 0;
}

int cudaMemGetInfo(size_t *available, size_t *total) { *available = 8ul << 30; *total = 16ul << 30; return 0; }
int cudaMalloc(void **memory, size_t size) { return (*memory = host_memory(size)) ? 0 : 2; }
int cudaFree(void *memory) { free(memory); return 0; }
int cudaHostAlloc(void **memory, size_t size, unsigned flags) { return (*memory = host_memory(size)) ? 0 : 2; }
int cudaFreeHost(void *memory) { free(memory); return 0; }
int cudaMemcpy(void *to, const void *from, size_t size, int kind) { memcpy(to, from, size); return 0; }
int cudaMemcpyAsync(void *to, const void *from, size_t size, int kind, void *stream)
{
    memcpy(to, from, size);
    return 0;
}
int cudaMemset(void *memory, int value, size_t size) { memset(memory, value, size); return 0; }
int cudaMemsetAsync(void *memory, int value, size_t size, void *stream) { memset(memory, value, size); return 0; }
STORES_HANDLE(cudaStreamCreate)
STORES_HANDLE(cudaStreamCreateWithFlags)
STORES_HANDLE(cudaStreamCreateWithPriority)
STORES_HANDLE(cudaEventCreate)
STORES_HANDLE(cudaEventCreateWithFlags)
int cudaEventElapsedTime(float *milliseconds, void *from, void *to) { *milliseconds = 1; return 0; }
const char *cudaGetErrorString(int error) { return "stub"; }
const char *cudaGetErrorName(int error) { return "stub"; }
int cuGetErrorName(int error, const char **name) { *name = "stub"; return 0; }
int cublasGetMathMode(void *handle, int *mode) { *mode = 0; return 0; }

const char *cudnnGetErrorString(int error) { return "stub"; }
size_t cudnnGetVersion() { return STUB_CUDNN_VERSION; }
int cudnnGetConvolutionForwardWorkspaceSize(void *h, void *x, void *w, void *c, void *y, int a, size_t *size)
{
    return some_bytes(size);
}
int cudnnGetConvolutionBackwardDataWorkspaceSize(void *h, void *w, void *dy, void *c, void *dx, int a, size_t *size)
{
    return some_bytes(size);
}
int cudnnGetConvolutionBackwardFilterWorkspaceSize(void *h, void *x, void *dy, void *c, void *dw, int a, size_t *size)
{
    return some_bytes(size);
}
int cudnnGetTensorSizeInBytes(void *tensor, size_t *size) { return some_bytes(size); }
int cudnnGetFilterSizeInBytes(void *filter, size_t *size) { return some_bytes(size); }
int cudnnGetReductionWorkspaceSize(void *h, void *r, void *a, void *c, size_t *size) { return some_bytes(size); }
int cudnnGetReductionIndicesSize(void *h, void *r, void *a, void *c, size_t *size) { return some_bytes(size); }
int cudnnDropoutGetStatesSize(void *h, size_t *size) { return some_bytes(size); }

/* one algorithm, number 1, that succeeded; sizeof(cudnnConvolutionFwdAlgoPerf_t) is 48 */
static int one_algorithm(int *found, char *results)
{
    memset(results, 0, 48);
    set_int(results, 0, 1);
    return one(found);
}
int cudnnGetConvolutionForwardAlgorithm_v7(void *h, void *x, void *w, void *c, void *y, int n, int *found,
                                           char *results)
{
    return one_algorithm(found, results);
}
int cudnnGetConvolutionBackwardDataAlgorithm_v7(void *h, void *w, void *dy, void *c, void *dx, int n, int *found,
                                                char *results)
{
    return one_algorithm(found, results);
}
int cudnnGetConvolutionBackwardFilterAlgorithm_v7(void *h, void *x, void *dy, void *c, void *dw, int n, int *found,
                                                  char *results)
{
    return one_algorithm(found, results);
}
int cudnnGetBatchNormalizationForwardTrainingExWorkspaceSize(void *h, int m, int o, void *x, void *z, void *y, void *b,
                                                             void *a, size_t *size)
{
    return some_bytes(size);
}
int cudnnGetBatchNormalizationTrainingExReserveSpaceSize(void *h, int m, int o, void *a, void *x, size_t *size)
{
    return some_bytes(size);
}
int cudnnGetBatchNormalizationBackwardExWorkspaceSize(void *h, int m, int o, void *x, void *y, void *dy, void *dz,
                                                      void *dx, void *b, void *a, size_t *size)
{
    return some_bytes(size);
}
