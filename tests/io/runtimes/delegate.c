/* A real external TFLite delegate with faults to order, built by the tests with the system's C compiler.
 *
 * Option "mode", or else the environment's TEST_DELEGATE_MODE, chooses what goes wrong and where; option "fill" is
 * the byte that a healthy run writes into every output. It claims the nodes that are compiled for the Edge TPU, or all nodes of a model that has none.
 * The structures below are the stable head of tensorflow/lite/core/c/common.h: names are ours, order is theirs.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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
  IntArray *inputs, *outputs; /* the rest of the node is not looked at */
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
  void *impl;
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

static char mode[32];
static int fill;

static bool is(const char *name) { return strcmp(mode, name) == 0; }

static void *kernel_init(Context *context, const char *buffer, size_t length) { return NULL; }

static void kernel_free(Context *context, void *buffer) {}

static int kernel_prepare(Context *context, Node *node) {
  if (is("kernel-prepare-error")) {
    context->report_error(context, "test delegate: the kernel can't be prepared");
    return ERROR;
  }
  return OK;
}

static int kernel_invoke(Context *context, Node *node) {
  if (is("invoke-error")) {
    context->report_error(context, "test delegate: USB transfer error\ndevice unplugged");
    return ERROR;
  }
  if (is("abort")) abort();
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
  for (size_t i = 0; i < count; i++) {
    if (strcmp(keys[i], "mode") == 0) snprintf(mode, sizeof mode, "%s", values[i]);
    if (strcmp(keys[i], "fill") == 0) fill = atoi(values[i]);
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
  Delegate *delegate = calloc(1, sizeof *delegate);
  delegate->prepare = delegate_prepare;
  delegate->flags = 1; /* dynamic tensors are fine */
  return delegate;
}

__attribute__((visibility("default"))) void tflite_plugin_destroy_delegate(Delegate *delegate) { free(delegate); }
