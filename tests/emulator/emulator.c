/* Instructions that this machine may lack, performed when they trap: AMX (int8 and bfloat16), AVX-VNNI and
 * AVX-VNNI-INT8, as Intel's manual (Software Developer's Manual, volume 2) defines them. See emulator.py.
 *
 * A SIGILL handler decodes the instruction at the program counter, performs it on the registers that the kernel
 * saved for the signal, and goes on behind it. Tiles, which no register here holds, belong to a thread. What
 * hardware would refuse is said on standard error, and then the signal does what it did before.
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <immintrin.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

enum { NUM_TILES = 8, MAX_ROWS = 16, MAX_BYTES = 64 };
enum { NO_PREFIX, PREFIX_66, PREFIX_F3, PREFIX_F2 };
enum { XMM_OFFSET = 160, SOFTWARE_OFFSET = 464, HEADER_OFFSET = 512, STATE_SSE = 1, STATE_YMM = 2, STATE_ZMM = 6 };

typedef struct { uint8_t rows[MAX_ROWS][MAX_BYTES]; } Tile;
typedef struct {
  uint8_t palette, start_row, reserved[14];
  uint16_t row_bytes[16];
  uint8_t num_rows[16];
} Configuration;

static __thread Configuration configuration;
static __thread Tile tiles[NUM_TILES];
static struct sigaction previous;
static int is_installed;

/* How many instructions were performed, by kind; emulator.py has the names in this order. */
enum { LDTILECFG, STTILECFG, TILERELEASE, TILEZERO, TILELOADD, TILELOADDT1, TILESTORED, TDPBSSD, TDPBSUD, TDPBUSD,
       TDPBUUD, TDPBF16PS, VPDPB, VPDPW, NUM_KINDS };
int64_t emulator_counts[NUM_KINDS];

/* An instruction with a VEX prefix of three bytes, in the opcode map 0F38. */
typedef struct {
  int length, opcode, prefix, wide, is_256, second; /* second: the register in the prefix */
  int mod, reg, rm;                                 /* with their fourth bits */
  uint8_t *address;                                 /* where mod is not 3 */
  int64_t stride;                                   /* index times scale, 0 without one */
  int has_index_byte;
  greg_t *registers;
  uint8_t *vectors;                                 /* the XSAVE area */
} Instruction;

static __thread const char *refusal; /* of the instruction just tried */

static int refuse(const char *sentence) { return refusal = sentence, 0; }

static greg_t *general(greg_t *registers, int number) {
  static const int of[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                             REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
  return &registers[of[number]];
}

static int decode(const uint8_t *code, greg_t *registers, Instruction *in) {
  const uint8_t *at = code;
  if (at[0] != 0xC4 || (at[1] & 0x1F) != 2) return 0;
  int not_r = at[1] >> 7, not_x = at[1] >> 6 & 1, not_b = at[1] >> 5 & 1;
  *in = (Instruction){.opcode = at[3], .prefix = at[2] & 3, .wide = at[2] >> 7, .is_256 = at[2] >> 2 & 1,
                      .second = ~at[2] >> 3 & 15, .mod = at[4] >> 6, .reg = (at[4] >> 3 & 7) + 8 * !not_r,
                      .rm = (at[4] & 7) + 8 * !not_b, .registers = registers};
  int form = at[4] & 7;
  at += 5;
  if (in->mod != 3) {
    uint64_t address = 0;
    int displacement_bytes = in->mod == 1 ? 1 : in->mod == 2 ? 4 : 0, from_next = 0;
    if (form == 4) {
      int scale = *at >> 6, index = (*at >> 3 & 7) + 8 * !not_x, base = (*at & 7) + 8 * !not_b;
      in->has_index_byte = 1;
      if (index != 4) in->stride = *general(registers, index) * (1 << scale);
      if ((*at & 7) == 5 && in->mod == 0) displacement_bytes = 4;
      else address = *general(registers, base);
      ++at;
    } else if (form == 5 && in->mod == 0) {
      displacement_bytes = 4, from_next = 1;
    } else {
      address = *general(registers, in->rm);
    }
    if (displacement_bytes == 1) address += (int64_t)(int8_t)*at;
    if (displacement_bytes == 4) {
      int32_t displacement;
      memcpy(&displacement, at, 4);
      address += (int64_t)displacement;
    }
    at += displacement_bytes;
    if (from_next) address += (uint64_t)at;
    in->address = (uint8_t *)address;
  }
  in->length = at - code;
  return 1;
}

/* --- tiles */

static int configure(const uint8_t *from) {
  Configuration wanted;
  memcpy(&wanted, from, sizeof wanted);
  if (wanted.palette == 0) {
    memset(&configuration, 0, sizeof configuration);
    memset(tiles, 0, sizeof tiles);
    return 1;
  }
  if (wanted.palette != 1) return refuse("ldtilecfg: a palette other than 1");
  if (wanted.start_row) return refuse("ldtilecfg: a start row (hardware would resume there; this cannot)");
  for (int i = 0; i < 14; ++i)
    if (wanted.reserved[i]) return refuse("ldtilecfg: a reserved byte that is not zero");
  for (int i = 0; i < 16; ++i) {
    if (i >= NUM_TILES && (wanted.row_bytes[i] || wanted.num_rows[i]))
      return refuse("ldtilecfg: a tile that palette 1 does not have");
    if (wanted.row_bytes[i] > MAX_BYTES || wanted.num_rows[i] > MAX_ROWS)
      return refuse("ldtilecfg: a tile of more than 16 rows or 64 bytes a row");
    if (!wanted.row_bytes[i] != !wanted.num_rows[i])
      return refuse("ldtilecfg: a tile with rows and no bytes, or bytes and no rows");
  }
  configuration = wanted;
  memset(tiles, 0, sizeof tiles);
  return 1;
}

static int is_usable(int tile) {
  if (!configuration.palette) return refuse("tiles are used without ldtilecfg, or after tilerelease");
  if (tile >= NUM_TILES || !configuration.num_rows[tile]) return refuse("a tile is used that was not configured");
  return 1;
}

static int move_tile(const Instruction *in, int is_store) {
  if (in->mod == 3 || !in->has_index_byte) return refuse("a tile is moved without an index byte");
  if (!is_usable(in->reg)) return 0;
  int num_rows = configuration.num_rows[in->reg], row_bytes = configuration.row_bytes[in->reg];
  if (!is_store) memset(&tiles[in->reg], 0, sizeof(Tile));
  for (int row = 0; row < num_rows; ++row) {
    uint8_t *memory = in->address + row * in->stride, *register_ = tiles[in->reg].rows[row];
    memcpy(is_store ? memory : register_, is_store ? register_ : memory, row_bytes);
  }
  return 1;
}

/* Whether shapes fit; a is rows x inputs, b is inputs / 4 bytes x outputs. */
static int products_fit(int c, int a, int b) {
  if (!is_usable(c) || !is_usable(a) || !is_usable(b)) return 0;
  const Configuration *is = &configuration;
  if (c == a || c == b || a == b) return refuse("a product of tiles that are not three different ones");
  if (is->row_bytes[c] % 4 || is->row_bytes[a] % 4 || is->row_bytes[b] % 4)
    return refuse("a product of tiles whose rows are not whole words");
  if (is->num_rows[c] != is->num_rows[a]) return refuse("a product whose result has other rows than the first tile");
  if (is->row_bytes[a] / 4 != is->num_rows[b])
    return refuse("a product whose first tile has other words in a row than the second has rows");
  if (is->row_bytes[c] != is->row_bytes[b])
    return refuse("a product whose result has other bytes in a row than the second tile");
  return 1;
}

__attribute__((optimize("O3"), target("avx2"))) static void multiply_bytes(Tile *c, const Tile *a, const Tile *b,
                                                                           int rows, int words, int columns,
                                                                           int a_is_signed, int b_is_signed) {
  uint8_t a_flip = a_is_signed ? 0x80 : 0, b_flip = b_is_signed ? 0x80 : 0;
  for (int m = 0; m < rows; ++m) {
    int32_t sums[16];
    memcpy(sums, c->rows[m], sizeof sums);
    for (int k = 0; k < words; ++k)
      for (int i = 0; i < 4; ++i) {
        int32_t left = (uint8_t)(a->rows[m][4 * k + i] ^ a_flip) - a_flip;
        for (int n = 0; n < 16; ++n)
          sums[n] += (uint32_t)(left * ((uint8_t)(b->rows[k][4 * n + i] ^ b_flip) - b_flip));
      }
    memset(c->rows[m], 0, MAX_BYTES);
    memcpy(c->rows[m], sums, 4 * columns);
  }
}

/* In float32 with fused products, rounded to the nearest, denormals taken for zero and never made: the products of
 * even and of odd inputs each in one chain from zero, then their sum added to the result. */
__attribute__((optimize("O3"), target("avx2,fma"))) static void multiply_bfloat16(Tile *c, const Tile *a, const Tile *b,
                                                                                 int rows, int words, int columns) {
  unsigned before = _mm_getcsr();
  _mm_setcsr(0x9FC0); /* all exceptions masked, denormals flushed on both sides */
  for (int m = 0; m < rows; ++m)
    for (int n = 0; n < 16; n += 8) {
      __m256 even = _mm256_setzero_ps(), odd = _mm256_setzero_ps();
      for (int k = 0; k < words; ++k) {
        uint32_t pair;
        memcpy(&pair, &a->rows[m][4 * k], 4);
        __m256i pairs = _mm256_loadu_si256((const void *)&b->rows[k][4 * n]);
        __m256i high = _mm256_and_si256(pairs, _mm256_set1_epi32(0xFFFF0000));
        even = _mm256_fmadd_ps(_mm256_castsi256_ps(_mm256_set1_epi32(pair << 16)),
                               _mm256_castsi256_ps(_mm256_slli_epi32(pairs, 16)), even);
        odd = _mm256_fmadd_ps(_mm256_castsi256_ps(_mm256_set1_epi32(pair & 0xFFFF0000)), _mm256_castsi256_ps(high), odd);
      }
      float *into = (float *)&c->rows[m][4 * n];
      __m256 sums = _mm256_add_ps(_mm256_loadu_ps(into), _mm256_add_ps(even, odd));
      _mm256_storeu_ps(into, sums);
    }
  for (int m = 0; m < rows; ++m) memset(c->rows[m] + 4 * columns, 0, MAX_BYTES - 4 * columns);
  _mm_setcsr(before);
}

static int multiply_tiles(const Instruction *in, int is_bfloat16) {
  int c = in->reg, a = in->rm, b = in->second;
  if (!products_fit(c, a, b)) return 0;
  int rows = configuration.num_rows[c], words = configuration.num_rows[b], columns = configuration.row_bytes[c] / 4;
  if (is_bfloat16) {
    multiply_bfloat16(&tiles[c], &tiles[a], &tiles[b], rows, words, columns);
  } else {
    int a_is_signed = in->prefix == PREFIX_F2 || in->prefix == PREFIX_F3;
    int b_is_signed = in->prefix == PREFIX_F2 || in->prefix == PREFIX_66;
    multiply_bytes(&tiles[c], &tiles[a], &tiles[b], rows, words, columns, a_is_signed, b_is_signed);
  }
  return 1;
}

/* --- vectors, in the XSAVE area in its standard form */

static uint8_t *component(uint8_t *area, int number) {
  unsigned size, offset, unused;
  __cpuid_count(0xD, number, size, offset, unused, unused);
  return area + offset;
}

static int holds(const uint8_t *area, int number) { return area[HEADER_OFFSET] >> number & 1; }

static void read_vector(uint8_t *area, int number, uint8_t *into) {
  memset(into, 0, 32);
  if (holds(area, STATE_SSE)) memcpy(into, area + XMM_OFFSET + 16 * number, 16);
  if (holds(area, STATE_YMM)) memcpy(into + 16, component(area, STATE_YMM) + 16 * number, 16);
}

static void write_vector(uint8_t *area, int number, const uint8_t *value, int is_256) {
  uint8_t *high = component(area, STATE_YMM);
  if (!holds(area, STATE_SSE)) memset(area + XMM_OFFSET, 0, 256);
  if (!holds(area, STATE_YMM)) memset(high, 0, 256);
  area[HEADER_OFFSET] |= 1 << STATE_SSE | 1 << STATE_YMM;
  memcpy(area + XMM_OFFSET + 16 * number, value, 16);
  if (is_256) memcpy(high + 16 * number, value + 16, 16);
  else memset(high + 16 * number, 0, 16);
  if (holds(area, STATE_ZMM)) memset(component(area, STATE_ZMM) + 32 * number, 0, 32);
}

static int32_t saturated(int64_t sum, int is_unsigned) {
  if (is_unsigned) return sum > UINT32_MAX ? (int32_t)UINT32_MAX : (int32_t)(uint32_t)sum;
  return sum > INT32_MAX ? INT32_MAX : sum < INT32_MIN ? INT32_MIN : sum;
}

static int multiply_vectors(const Instruction *in) {
  if (!in->vectors) return refuse("the signal came without the vector registers");
  uint8_t first[32], second[32];
  int32_t sums[8];
  read_vector(in->vectors, in->reg, (uint8_t *)sums);
  read_vector(in->vectors, in->second, first);
  if (in->mod == 3) read_vector(in->vectors, in->rm, second);
  else memcpy(second, in->address, in->is_256 ? 32 : 16);
  int of_words = in->opcode >= 0x52, saturates = in->opcode & 1;
  int first_is_signed = in->prefix == PREFIX_F2 || in->prefix == PREFIX_F3;
  int second_is_signed = in->prefix == PREFIX_F2 || in->prefix == PREFIX_66;
  for (int lane = 0; lane < (in->is_256 ? 8 : 4); ++lane) {
    int64_t total = 0;
    if (of_words) {
      int16_t a[2], b[2];
      memcpy(a, first + 4 * lane, 4), memcpy(b, second + 4 * lane, 4);
      total = (int64_t)a[0] * b[0] + (int64_t)a[1] * b[1];
    } else {
      for (int i = 4 * lane; i < 4 * lane + 4; ++i)
        total += (first_is_signed ? (int8_t)first[i] : first[i]) * (second_is_signed ? (int8_t)second[i] : second[i]);
    }
    int is_unsigned = saturates && in->prefix == NO_PREFIX;
    int64_t sum = (is_unsigned ? (int64_t)(uint32_t)sums[lane] : sums[lane]) + total;
    sums[lane] = saturates ? saturated(sum, is_unsigned) : (int32_t)(uint32_t)sum;
  }
  write_vector(in->vectors, in->reg, (uint8_t *)sums, in->is_256);
  return 1;
}

/* --- the signal */

/* The kind of an instruction, or NUM_KINDS where it is none of ours. */
static int kind_of(const Instruction *in) {
  static const int moves[4] = {NUM_KINDS, TILELOADDT1, TILESTORED, TILELOADD};
  static const int products[4] = {TDPBUUD, TDPBUSD, TDPBSUD, TDPBSSD};
  if (in->wide) return NUM_KINDS;
  if (in->opcode == 0x50 || in->opcode == 0x51) return VPDPB;
  if ((in->opcode == 0x52 || in->opcode == 0x53) && in->prefix == PREFIX_66) return VPDPW;
  if (in->is_256) return NUM_KINDS;
  switch (in->opcode) {
    case 0x49:
      if (in->mod != 3 && in->reg == 0) return in->prefix == NO_PREFIX   ? LDTILECFG
                                               : in->prefix == PREFIX_66 ? STTILECFG
                                                                         : NUM_KINDS;
      if (in->mod == 3 && in->prefix == NO_PREFIX && in->reg == 0 && in->rm == 0) return TILERELEASE;
      return in->mod == 3 && in->prefix == PREFIX_F2 && in->rm == 0 ? TILEZERO : NUM_KINDS;
    case 0x4B: return moves[in->prefix];
    case 0x5C: return in->mod == 3 && in->prefix == PREFIX_F3 ? TDPBF16PS : NUM_KINDS;
    case 0x5E: return in->mod == 3 ? products[in->prefix] : NUM_KINDS;
    default: return NUM_KINDS;
  }
}

static int perform(const Instruction *in, int kind) {
  static const uint8_t nothing[64];
  switch (kind) {
    case LDTILECFG: return configure(in->address);
    case STTILECFG: return memcpy(in->address, &configuration, sizeof configuration), 1;
    case TILERELEASE: return configure(nothing);
    case TILEZERO: return is_usable(in->reg) ? memset(&tiles[in->reg], 0, sizeof(Tile)), 1 : 0;
    case TILELOADD:
    case TILELOADDT1: return move_tile(in, 0);
    case TILESTORED: return move_tile(in, 1);
    case TDPBF16PS: return multiply_tiles(in, 1);
    case VPDPB:
    case VPDPW: return multiply_vectors(in);
    default: return multiply_tiles(in, 0);
  }
}

static uint8_t *xsave_area(const ucontext_t *context) {
  uint8_t *area = (uint8_t *)context->uc_mcontext.fpregs;
  uint32_t magic;
  memcpy(&magic, area + SOFTWARE_OFFSET, 4);
  return magic == 0x46505853 ? area : NULL; /* what the kernel marks such an area with */
}

static void handle(int number, siginfo_t *info, void *pointer) {
  (void)number, (void)info;
  ucontext_t *context = pointer;
  greg_t *registers = context->uc_mcontext.gregs;
  Instruction in;
  int num_performed = 0, kind = 0;
  refusal = "an instruction that is not emulated";
  /* A signal costs more than most instructions: those that follow at once are performed in the same one. */
  while (decode((const uint8_t *)registers[REG_RIP], registers, &in)) {
    in.vectors = xsave_area(context);
    kind = kind_of(&in);
    if (kind == NUM_KINDS || !perform(&in, kind)) break;
    registers[REG_RIP] += in.length;
    __atomic_fetch_add(&emulator_counts[kind], 1, __ATOMIC_RELAXED);
    ++num_performed;
  }
  if (num_performed) return;
  char line[300];
  const uint8_t *code = (const uint8_t *)registers[REG_RIP];
  int size = snprintf(line, sizeof line, "emulator: %s (code %02x %02x %02x %02x %02x %02x at %p)\n", refusal, code[0],
                      code[1], code[2], code[3], code[4], code[5], (void *)code);
  if (write(STDERR_FILENO, line, size) < 0) _exit(1);
  sigaction(SIGILL, &previous, NULL); /* the instruction is tried again, and traps again */
  is_installed = 0;
}

int emulator_install(void) {
  if (is_installed) return 0;
  struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO | SA_NODEFER};
  sigemptyset(&action.sa_mask);
  is_installed = 1;
  return sigaction(SIGILL, &action, &previous);
}

int emulator_remove(void) {
  if (!is_installed) return 0;
  is_installed = 0;
  return sigaction(SIGILL, &previous, NULL);
}
