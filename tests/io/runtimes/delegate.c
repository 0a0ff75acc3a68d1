/* A real external TFLite delegate with faults to order, built by the tests with the system's C compiler.
 *
 * Option "mode", or else the environment's TEST_DELEGATE_MODE, chooses what goes wrong and where; option "fill" is
 * the byte that a healthy run writes into every output. It claims the nodes that are compiled for the Edge TPU, or all
 * nodes of a model that has none.
 *
 * Option "bus" is a folder with a file for each device that is plugged in, as "usb:0"; option "device" names one. What
 * the file holds is that device's mode from now on, so that a test can take a device away, break it and bring it back.
 * One process at a time has a device, as often as it likes: the file "<device>.lock" beside it is its lock.
 *
 * The structures below are the stable head of tensorflow/lite/core/c/common.h: names are ours, order is theirs. Built
 * with WRONG_ABI, one of them lacks a member.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { OK = 0, ERROR = 1 };

typedef struct {
  int size;
  int data[];
} IntArray;

typedef struct Context Context;
typedef struct Delegate Delegate;

typedef struct {
  int type;
  void *data;
  IntArray *dims;
  struct {
    float scale;
    int32_t zero_point;
  } params;
  int allocation_type;
  size_t bytes;
  const void *allocation;
  const char *name;
  Delegate *delegate;
  int buffer_handle;
  bool data_is_stale, is_variable;
  struct {
    int type;
    void *params;
  } quantization;
  void *sparsity;
  const IntArray *dims_signature;
} Tensor;

typedef struct {
  IntArray *inputs, *outputs, *intermediates, *temporaries;
  void *user_data; /* the rest of the node is not looked at */
} Node;

typedef struct {
  void *(*init)(Context *, const char *, size_t);
  void (*free)(Context *, void *);
  int (*prepare)(Context *, Node *);
  int (*invoke)(Context *, Node *);
  const char *(*profiling_string)(const Context *, const Node *);
  int32_t builtin_code;
  const char *custom_name;
  int version;
  void *later_versions[8]; /* passed by value on the stack: a runtime reads as much of it as it knows */
} Registration;

struct Context {
  size_t tensors_size;
  int (*get_execution_plan)(Context *, IntArray **);
  Tensor *tensors;
#ifndef WRONG_ABI
  void *impl;
#endif
  int (*resize_tensor)(Context *, Tensor *, IntArray *);
  void (*report_error)(Context *, const char *, ...);
  int (*add_tensors)(Context *, int, int *);
  int (*get_node_and_registration)(Context *, int, Node **, Registration **);
  int (*replace_node_subsets)(Context *, Registration, const IntArray *, Delegate *);
};

struct Delegate {
  void *data;
  int (*prepare)(Context *, Delegate *);
  void *copy_from, *copy_to, *free_buffer;
  int64_t flags;
  void *later_versions[4];
};

enum { PATH = 512, DEVICES = 8 };

typedef struct {
  char path[PATH];
  int lock, users;
} Device;

/* What one interpreter has open. */
typedef struct {
  Device *device; /* NULL: no bus was named */
  ino_t file;     /* a device that was plugged in again is another one */
} Handle;

typedef struct {
  Delegate *delegate; /* the rest is not looked at */
} Params;

static char mode[32];
static int fill;
static Device devices[DEVICES];

static bool is(const char *name) { return strcmp(mode, name) == 0; }

/* The slot of this process for a device; NULL where another process has it, or it is not there. */
static Device *claim(const char *path) {
  Device *device = devices;
  while (device < devices + DEVICES && device->users && strcmp(device->path, path) != 0) device++;
  if (device == devices + DEVICES || access(path, F_OK) != 0) return NULL;
  if (!device->users) {
    char name[PATH + 8];
    snprintf(device->path, PATH, "%s", path);
    snprintf(name, sizeof name, "%s.lock", path);
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    device->lock = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fcntl(device->lock, F_SETLK, &whole) != 0) {
      close(device->lock);
      return NULL;
    }
  }
  device->users++;
  return device;
}

static void release(Device *device) {
  if (--device->users == 0) close(device->lock);
}

/* Whether the device is still the one that was opened; its mode is the library's from now on. */
static bool answers(const Handle *handle) {
  struct stat now;
  if (!handle->device) return true;
  if (stat(handle->device->path, &now) != 0 || now.st_ino != handle->file) return false;
  int file = open(handle->device->path, O_RDONLY | O_CLOEXEC);
  ssize_t length = file < 0 ? -1 : read(file, mode, sizeof mode - 1);
  if (file >= 0) close(file);
  mode[length > 0 ? length : 0] = 0;
  return length >= 0;
}

static void *kernel_init(Context *context, const char *buffer, size_t length) {
  return ((const Params *)buffer)->delegate->data;
}

static void kernel_free(Context *context, void *buffer) {}

static int kernel_prepare(Context *context, Node *node) {
  if (is("kernel-prepare-error")) {
    context->report_error(context, "test delegate: the kernel can't be prepared");
    return ERROR;
  }
  return OK;
}

static int kernel_invoke(Context *context, Node *node) {
  bool there = answers(node->user_data);
  if (!there || is("invoke-error")) {
    context->report_error(context, "test delegate: USB transfer error\ndevice unplugged");
    return ERROR;
  }
  if (is("hiccup")) {
    strcpy(mode, "success");
    context->report_error(context, "test delegate: one transfer was lost");
    return ERROR;
  }
  if (is("abort")) abort();
  if (is("hang-in-run"))
    for (;;) pause();
  for (int i = 0; i < node->outputs->size; i++) {
    Tensor *tensor = &context->tensors[node->outputs->data[i]];
    memset(tensor->data, fill, tensor->bytes);
  }
  return OK;
}

static int delegate_prepare(Context *context, Delegate *delegate) {
  if (is("prepare-error")) {
    context->report_error(context, "test delegate: no such chip");
    return ERROR;
  }
  if (is("claims-nothing")) return OK;
  IntArray *plan;
  if (context->get_execution_plan(context, &plan) != OK) return ERROR;
  IntArray *compiled = malloc(sizeof(IntArray) + sizeof(int) * plan->size);
  compiled->size = 0;
  for (int i = 0; i < plan->size; i++) {
    Node *node;
    Registration *registration;
    if (context->get_node_and_registration(context, plan->data[i], &node, &registration) != OK) return ERROR;
    if (registration->custom_name && strcmp(registration->custom_name, "edgetpu-custom-op") == 0)
      compiled->data[compiled->size++] = plan->data[i];
  }
  Registration kernel = {.init = kernel_init,
                         .free = kernel_free,
                         .prepare = kernel_prepare,
                         .invoke = kernel_invoke,
                         .custom_name = "TestDelegate",
                         .version = 1};
  int status = context->replace_node_subsets(context, kernel, compiled->size ? compiled : plan, delegate);
  free(compiled);
  return status;
}

__attribute__((visibility("default"))) Delegate *tflite_plugin_create_delegate(char **keys, char **values, size_t count,
                                                                               void (*report)(const char *)) {
  const char *ordered = getenv("TEST_DELEGATE_MODE");
  snprintf(mode, sizeof mode, "%s", ordered ? ordered : "success");
  fill = 7;
  const char *bus = NULL, *name = "usb:0";
  for (size_t i = 0; i < count; i++) {
    if (strcmp(keys[i], "mode") == 0) snprintf(mode, sizeof mode, "%s", values[i]);
    if (strcmp(keys[i], "fill") == 0) fill = atoi(values[i]);
    if (strcmp(keys[i], "bus") == 0) bus = values[i];
    if (strcmp(keys[i], "device") == 0) name = values[i];
  }
  if (is("null")) return NULL;
  if (is("null-with-message")) {
    report("no chip answers\non the bus");
    return NULL;
  }
  if (is("hang"))
    for (;;) pause();
  if (is("abort-at-once")) {
    fprintf(stderr, "test delegate: the firmware is from another age\n");
    abort();
  }
  if (is("segfault")) *(volatile int *)NULL = 1;
  if (is("chatter")) {
    puts("test delegate speaks on stdout");
    fflush(stdout);
    fprintf(stderr, "test delegate speaks on stderr\n");
  }
  if (is("slow-start")) usleep(1500000);
  Handle *handle = calloc(1, sizeof *handle);
  if (bus) {
    char path[PATH];
    struct stat now = {0};
    snprintf(path, sizeof path, "%s/%s", bus, name);
    handle->device = claim(path);
    if (!handle->device) {
      report(access(path, F_OK) == 0 ? "the device is another process's" : "no such device on the bus");
      free(handle);
      return NULL;
    }
    stat(path, &now);
    handle->file = now.st_ino;
  }
  Delegate *delegate = calloc(1, sizeof *delegate);
  delegate->data = handle;
  delegate->prepare = delegate_prepare;
  delegate->flags = 1; /* dynamic tensors are fine */
  return delegate;
}

__attribute__((visibility("default"))) void tflite_plugin_destroy_delegate(Delegate *delegate) {
  Handle *handle = delegate->data;
  if (handle->device) release(handle->device);
  free(handle);
  free(delegate);
}
