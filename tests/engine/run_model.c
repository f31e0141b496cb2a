/* Runs a .bmx file from C, knowing bmx.h only:  run_model FILE [THREADS [BATCH]]
 *
 * Input i, number k of a batch is (k + i) % 17 - 8. Prints shapes, the numbers of all outputs, and last the peak of the
 * memory that the process has had. */
#include <bmx.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check(int status) {
  if (status != 0) {
    fprintf(stderr, "run_model: %s\n", bmx_last_error());
    exit(1);
  }
}

static void print(const char* what, const bmx_array* array) {
  int i;
  printf("%s %s", what, array->name);
  for (i = 0; i < array->dims; ++i) printf(" %ld", (long)array->shape[i]);
  printf("\n");
}

/* Of this process alone: what getrusage says includes the one that started it. */
static void print_peak(void) {
  char line[256];
  FILE* file = fopen("/proc/self/status", "r");
  while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
    if (strncmp(line, "VmHWM:", 6) == 0) printf("peak %ld kB\n", atol(line + 6));
  }
  if (file != NULL) fclose(file);
}

static float* numbers(const bmx_array* array, long batch) {
  float* values = malloc((size_t)(batch * array->size + 1) * sizeof(float));
  if (values == NULL) {
    fprintf(stderr, "run_model: out of memory\n");
    exit(1);
  }
  return values;
}

int main(int count, char** arguments) {
  enum { MOST = 16 };
  bmx_model* model;
  bmx_session* session;
  bmx_array inputs[MOST], outputs[MOST];
  float *in[MOST], *out[MOST];
  const int threads = count > 2 ? atoi(arguments[2]) : 1;
  const long batch = count > 3 ? atol(arguments[3]) : 1;
  long k;
  int i;

  if (count < 2) {
    fprintf(stderr, "usage: run_model FILE [THREADS [BATCH]]\n");
    return 2;
  }
  check(bmx_model_load(arguments[1], &model));
  check(bmx_session_new(model, threads, &session));
  if (bmx_model_num_inputs(model) > MOST || bmx_model_num_outputs(model) > MOST) return 3;
  for (i = 0; i < bmx_model_num_inputs(model); ++i) {
    check(bmx_model_input(model, i, &inputs[i]));
    print("input", &inputs[i]);
    in[i] = numbers(&inputs[i], batch);
    for (k = 0; k < batch * inputs[i].size; ++k) in[i][k] = (float)((k + i) % 17 - 8);
  }
  for (i = 0; i < bmx_model_num_outputs(model); ++i) {
    check(bmx_model_output(model, i, &outputs[i]));
    out[i] = numbers(&outputs[i], batch);
  }

  check(bmx_session_run(session, batch, (const float* const*)in, out));

  for (i = 0; i < bmx_model_num_outputs(model); ++i) {
    print("output", &outputs[i]);
    for (k = 0; k < batch * outputs[i].size; ++k) printf("%.9g\n", out[i][k]);
    free(out[i]);
  }
  for (i = 0; i < bmx_model_num_inputs(model); ++i) free(in[i]);
  bmx_session_free(session);
  bmx_model_free(model);
  print_peak();
  return 0;
}
