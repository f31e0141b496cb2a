/* Runs .bmx files on given inputs, knowing bmx.h only:  run_programs IN OUT NAME...
 *
 * For each name, inputs are the floats of IN/NAME.in, one input after the other, and the outputs go to OUT/NAME.out in
 * the same way. First prints the kernels in use. */
#include <bmx.h>
#include <stdio.h>
#include <stdlib.h>

static void check(int failed, const char* name, const char* why) {
  if (!failed) return;
  fprintf(stderr, "run_programs: %s: %s\n", name, why);
  exit(1);
}

static void check_bmx(int status, const char* name) { check(status != 0, name, bmx_last_error()); }

static float* numbers(const bmx_array* array, const char* name) {
  float* values = calloc((size_t)array->size + 1, sizeof(float));
  check(values == NULL, name, "out of memory");
  return values;
}

static FILE* open_file(const char* folder, const char* name, const char* suffix, const char* mode) {
  char path[4096];
  FILE* file;
  snprintf(path, sizeof(path), "%s/%s%s", folder, name, suffix);
  file = fopen(path, mode);
  check(file == NULL, path, "cannot be opened");
  return file;
}

static void run(const char* in_folder, const char* out_folder, const char* name) {
  enum { MOST = 64 };
  bmx_model* model;
  bmx_session* session;
  bmx_array array;
  float *in[MOST], *out[MOST];
  char path[4096];
  FILE* file;
  int i;

  snprintf(path, sizeof(path), "%s/%s.bmx", in_folder, name);
  check_bmx(bmx_model_load(path, &model), name);
  check_bmx(bmx_session_new(model, 1, &session), name);
  check(bmx_model_num_inputs(model) > MOST || bmx_model_num_outputs(model) > MOST, name, "too many arrays");
  file = open_file(in_folder, name, ".in", "rb");
  for (i = 0; i < bmx_model_num_inputs(model); ++i) {
    check_bmx(bmx_model_input(model, i, &array), name);
    in[i] = numbers(&array, name);
    check(fread(in[i], sizeof(float), (size_t)array.size, file) != (size_t)array.size, name, "inputs are missing");
  }
  fclose(file);
  for (i = 0; i < bmx_model_num_outputs(model); ++i) {
    check_bmx(bmx_model_output(model, i, &array), name);
    out[i] = numbers(&array, name);
  }

  check_bmx(bmx_session_run(session, 1, (const float* const*)in, out), name);

  file = open_file(out_folder, name, ".out", "wb");
  for (i = 0; i < bmx_model_num_outputs(model); ++i) {
    check_bmx(bmx_model_output(model, i, &array), name);
    check(fwrite(out[i], sizeof(float), (size_t)array.size, file) != (size_t)array.size, name, "cannot be written");
    free(out[i]);
  }
  check(fclose(file) != 0, name, "cannot be written");
  for (i = 0; i < bmx_model_num_inputs(model); ++i) free(in[i]);
  bmx_session_free(session);
  bmx_model_free(model);
}

int main(int count, char** arguments) {
  const char* isa;
  int i;
  check(count < 4, "usage", "run_programs IN OUT NAME...");
  check_bmx(bmx_isa(&isa), "bmx_isa");
  printf("%s\n", isa);
  for (i = 3; i < count; ++i) run(arguments[1], arguments[2], arguments[i]);
  return 0;
}
