/* Classifies PNG and JPEG files, or those of folders, with a compiled network: what `bmx run` does, in C. */
#define _POSIX_C_SOURCE 200809L
#include <bmx.h>
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>

#include "classify.h"

static const char usage[] =
    "usage: classify [OPTIONS] MODEL.bmx IMAGE|FOLDER...\n"
    "Print the likeliest classes of PNG and JPEG files. Options, as those of `bmx run`:\n"
    "  --labels FILE    names of the classes, one a line (default: their numbers)\n"
    "  --top N          how many classes to print (default: 5)\n"
    "  --resize N       make the shorter side N pixels, then cut out the middle (default: show all of it)\n"
    "  --stretch        cut nothing off, change the proportions instead\n"
    "  --mean X|R,G,B   of pixels / 255 (default: 0)\n"
    "  --std X|R,G,B    of pixels / 255 (default: 1)\n"
    "  --threads N      (default: 1)\n";

void fail(const char* format, ...) {
  va_list arguments;
  fflush(stdout);
  fputs("classify: ", stderr);
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  fputc('\n', stderr);
  exit(1);
}

void* allocate(size_t size) {
  void* memory = malloc(size != 0 ? size : 1);
  if (memory == NULL) fail("out of memory");
  return memory;
}

static void* grown(void* memory, size_t size) {
  memory = realloc(memory, size);
  if (memory == NULL) fail("out of memory");
  return memory;
}

static char* joined(const char* folder, const char* name) {
  const size_t size = strlen(folder) + strlen(name) + 2;
  const char* slash = folder[strlen(folder) - 1] == '/' ? "" : "/";
  char* path = allocate(size);
  snprintf(path, size, "%s%s%s", folder, slash, name);
  return path;
}

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* --- Lists of names --------------------------------------------------------------------------------------------- */

typedef struct names {
  char** items;
  size_t count;
} names;

static void append(names* list, char* item) {
  list->items = grown(list->items, (list->count + 1) * sizeof(char*));
  list->items[list->count++] = item;
}

static void free_names(names* list) {
  while (list->count != 0) free(list->items[--list->count]);
  free(list->items);
}

static int by_name(const void* a, const void* b) { return strcmp(*(char* const*)a, *(char* const*)b); }

static int is_picture(const char* name) {
  const char* end = strrchr(name, '.');
  return end != NULL && (strcasecmp(end, ".png") == 0 || strcasecmp(end, ".jpg") == 0 || strcasecmp(end, ".jpeg") == 0);
}

/* Appends a file, or the pictures of a folder by name. */
static void append_pictures(names* list, const char* path) {
  struct stat about;
  const struct dirent* entry;
  const size_t before = list->count;
  DIR* folder;
  if (stat(path, &about) != 0) fail("%s: cannot be read: %s", path, strerror(errno));
  if (!S_ISDIR(about.st_mode)) {
    append(list, strcpy(allocate(strlen(path) + 1), path));
    return;
  }
  folder = opendir(path);
  if (folder == NULL) fail("%s: cannot be read: %s", path, strerror(errno));
  while ((entry = readdir(folder)) != NULL) {
    if (is_picture(entry->d_name)) append(list, joined(path, entry->d_name));
  }
  closedir(folder);
  if (list->count == before) fail("%s: the folder has no file *.png, *.jpg or *.jpeg", path);
  qsort(list->items + before, list->count - before, sizeof(char*), by_name);
}

static names read_labels(const char* path) {
  names labels = {NULL, 0};
  FILE* file = fopen(path, "r");
  char* line = NULL;
  size_t room = 0;
  if (file == NULL) fail("%s: cannot be read: %s", path, strerror(errno));
  errno = 0;
  while (getline(&line, &room, file) >= 0) {
    line[strcspn(line, "\r\n")] = '\0';
    append(&labels, line);
    line = NULL;
    room = 0;
  }
  if (ferror(file)) fail("%s: cannot be read: %s", path, strerror(errno));
  free(line);
  fclose(file);
  return labels;
}

/* --- Options ---------------------------------------------------------------------------------------------------- */

typedef struct options {
  const char *model, *labels;
  int top, threads;
  preparation how;
} options;

static int whole_number(const char* name, const char* text) {
  char* end;
  const long value = strtol(text, &end, 10);
  if (end == text || *end != '\0' || value < 1 || value > 1000000) {
    fail("--%s is %s; it must be a whole number from 1", name, text);
  }
  return (int)value;
}

/* One number for all channels, or one per channel. */
static void numbers(const char* name, const char* text, int channels, float* values) {
  const char* at = text;
  char* end;
  int count = 0, c;
  do {
    const double value = strtod(at, &end);
    if (end == at || (*end != '\0' && *end != ','))
      fail("--%s is %s; it must be numbers with commas between", name, text);
    if (count < 3) values[count] = (float)value;
    ++count;
    at = end + 1;
  } while (*end == ',');
  if (count != 1 && count != channels) {
    fail("--%s has %d numbers; allowed: 1 or %d, one per channel", name, count, channels);
  }
  for (c = 0; c < channels; ++c) {
    if (count == 1) values[c] = values[0];
    if (!isfinite(values[c]) || (strcmp(name, "std") == 0 && values[c] <= 0)) {
      fail("--mean and --std must be finite, and --std positive");
    }
  }
}

static void check(int status) {
  if (status != 0) fail("%s", bmx_last_error());
}

/* --- Results ---------------------------------------------------------------------------------------------------- */

/* Scores become probabilities, unless the network has made them so. */
static void softmax(float* scores, int64_t count) {
  float largest = -INFINITY, sum = 0;
  int negative = 0;
  int64_t i;
  for (i = 0; i < count; ++i) {
    largest = fmaxf(largest, scores[i]);
    sum += scores[i];
    negative |= !(scores[i] >= 0);
  }
  if (!negative && fabsf(sum - 1) < 1e-3f) return;
  sum = 0;
  for (i = 0; i < count; ++i) sum += scores[i] = expf(scores[i] - largest);
  for (i = 0; i < count; ++i) scores[i] /= sum;
}

/* Prints the likeliest classes, of equal ones the first; what is printed becomes -1. */
static void print_top(float* shares, int64_t count, int top, const names* labels) {
  for (; top > 0; --top) {
    int64_t best = -1, i;
    for (i = 0; i < count; ++i) {
      if (shares[i] >= 0 && (best < 0 || shares[i] > shares[best])) best = i;
    }
    if (best < 0) return;
    printf("  %6.2f%%  ", 100.0 * shares[best]);
    if (labels->count != 0) {
      puts(labels->items[best]);
    } else {
      printf("%lld\n", (long long)best);
    }
    shares[best] = -1;
  }
}

static void run(const options* chosen, bmx_session* session, const bmx_model* model, const names* pictures,
                const names* labels) {
  const preparation* how = &chosen->how;
  const int outputs = bmx_model_num_outputs(model);
  const size_t size = (size_t)how->channels * how->height * how->width;
  float* input = allocate(size * sizeof(float));
  float** results = allocate((size_t)outputs * sizeof(float*));
  const float* inputs[1];
  double reading = 0, running = 0;
  bmx_array output;
  size_t i;
  int k;
  for (k = outputs - 1; k >= 0; --k) { /* the first one, last here, is what is printed */
    check(bmx_model_output(model, k, &output));
    results[k] = allocate((size_t)output.size * sizeof(float));
  }
  if (labels->count != 0 && labels->count != (size_t)output.size) {
    fail("%s: it has %zu lines; the network has %lld classes", chosen->labels, labels->count, (long long)output.size);
  }
  inputs[0] = memset(input, 0, size * sizeof(float));
  check(bmx_session_run(session, 1, inputs, results)); /* once unmeasured: pages of the file come into memory */
  for (i = 0; i < pictures->count; ++i) {
    const double begin = seconds();
    double middle, end;
    picture image = read_picture(pictures->items[i], how->channels);
    prepare(how, &image, input);
    free(image.pixels);
    middle = seconds();
    check(bmx_session_run(session, 1, inputs, results));
    end = seconds();
    printf("%s  (%.2f ms, and %.2f ms to read)\n", pictures->items[i], 1e3 * (end - middle), 1e3 * (middle - begin));
    softmax(results[0], output.size);
    print_top(results[0], output.size, chosen->top, labels);
    reading += middle - begin;
    running += end - middle;
  }
  printf("%zu image%s: %.2f ms each, and %.2f ms to read; %.1f images/s\n", pictures->count,
         pictures->count == 1 ? "" : "s", 1e3 * running / (double)pictures->count,
         1e3 * reading / (double)pictures->count, (double)pictures->count / (running + reading));
  for (k = 0; k < outputs; ++k) free(results[k]);
  free(results);
  free(input);
}

/* The network's part of the preparation. */
static void take_shape(const bmx_model* model, options* chosen) {
  bmx_array input;
  preparation* how = &chosen->how;
  if (bmx_model_num_inputs(model) != 1) {
    fail("%s: it takes %d inputs; give a network with one", chosen->model,
         bmx_model_num_inputs(model));
  }
  check(bmx_model_input(model, 0, &input));
  if (input.dims != 3 || (input.shape[0] != 1 && input.shape[0] != 3)) {
    char shape[100] = "";
    int i, end = 0;
    for (i = 0; i < input.dims; ++i) {
      end += snprintf(shape + end, sizeof(shape) - (size_t)end, "%s%lld", i != 0 ? "x" : "", (long long)input.shape[i]);
    }
    fail("%s: its input has the shape %s; pictures are 1xHxW or 3xHxW", chosen->model, shape);
  }
  if (input.size > 1 << 28) fail("%s: its input is too large for a picture", chosen->model);
  how->channels = (int)input.shape[0];
  how->height = (int)input.shape[1];
  how->width = (int)input.shape[2];
}

int main(int count, char** words) {
  static const struct option known[] = {{"labels", required_argument, NULL, 'l'},
                                        {"top", required_argument, NULL, 't'},
                                        {"resize", required_argument, NULL, 'r'},
                                        {"stretch", no_argument, NULL, 's'},
                                        {"mean", required_argument, NULL, 'm'},
                                        {"std", required_argument, NULL, 'd'},
                                        {"threads", required_argument, NULL, 'n'},
                                        {"help", no_argument, NULL, 'h'},
                                        {NULL, 0, NULL, 0}};
  options chosen = {NULL, NULL, 5, 1, {0, 0, 0, 0, 0, {0, 0, 0}, {1, 1, 1}}};
  const char *mean = "0", *std = "1";
  names pictures = {NULL, 0}, labels = {NULL, 0};
  bmx_model* model;
  bmx_session* session;
  preparation* how = &chosen.how;
  int letter;
  while ((letter = getopt_long(count, words, "", known, NULL)) != -1) {
    switch (letter) {
      case 'l':
        chosen.labels = optarg;
        break;
      case 't':
        chosen.top = whole_number("top", optarg);
        break;
      case 'r':
        how->resize = whole_number("resize", optarg);
        break;
      case 's':
        how->stretch = 1;
        break;
      case 'm':
        mean = optarg;
        break;
      case 'd':
        std = optarg;
        break;
      case 'n':
        chosen.threads = whole_number("threads", optarg);
        break;
      case 'h':
        fputs(usage, stdout);
        return 0;
      default:
        fputs(usage, stderr);
        return 2;
    }
  }
  if (count - optind < 2) {
    fputs(usage, stderr);
    return 2;
  }
  chosen.model = words[optind++];
  check(bmx_model_load(chosen.model, &model));
  take_shape(model, &chosen);
  numbers("mean", mean, how->channels, how->mean);
  numbers("std", std, how->channels, how->std);
  if (how->resize != 0 && how->stretch) fail("--resize and --stretch cannot be combined; give one of them");
  if (how->resize != 0 && (how->resize < how->height || how->resize < how->width)) {
    fail("--resize is %d; it must be at least the network's %dx%d pixels", how->resize, how->height, how->width);
  }
  if (chosen.labels != NULL) labels = read_labels(chosen.labels);
  for (; optind < count; ++optind) append_pictures(&pictures, words[optind]);
  check(bmx_session_new(model, chosen.threads, &session));
  run(&chosen, session, model, &pictures, &labels);
  bmx_session_free(session);
  bmx_model_free(model);
  free_names(&pictures);
  free_names(&labels);
  return 0;
}
