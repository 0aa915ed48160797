# Functions of each emulated instruction in the forms that compilers write, for test_emulator.py.
.text
.macro function name
.globl \name
\name\():
.endm

# Move tiles through every kind of address: (from rdi, to rsi, stride rdx, configuration to rcx), two rows of 64
# bytes a time.
function move_forms
  ldtilecfg shape_of_moves(%rip)
  push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15
  mov %rdx, %r14
  mov %rdi, %r13
  tileloadd (%rdi,%rdx), %tmm0
  tilestored %tmm0, (%rsi,%rdx)
  tileloadd 64(%r13,%r14), %tmm1           # r13 needs a displacement anyway
  tilestored %tmm1, 64(%rsi,%r14)
  mov %rsi, %r12
  mov %rdi, %rbp
  tileloadd 128(%rbp,%r14), %tmm2
  tilestored %tmm2, 128(%r12,%r14)         # r12 as base
  mov %rdx, %r12
  tileloadd 192(%rdi,%r12), %tmm3          # r12 as index
  mov %rsi, %r15
  tilestored %tmm3, 192(%r15,%r12)
  mov %rdx, %rax
  shr $2, %rax
  lea -1000(%rdi), %r8
  tileloadd 1256(%r8,%rax,4), %tmm4        # four bytes of displacement, an index times four
  lea -1000(%rsi), %r9
  tilestored %tmm4, 1256(%r9,%rax,4)
  lea 448(%rdi), %r10
  shr $1, %rax
  tileloaddt1 -128(%r10,%rax,8), %tmm5     # a negative displacement
  lea 448(%rsi), %r11
  tilestored %tmm5, -128(%r11,%rax,8)
  lea 384(%rdi), %rbx
  tileloadd (%rbx), %tmm6                  # no index: every row is the first
  lea 384(%rsi), %rbx
  tilestored %tmm6, (%rbx,%rdx)
  tileloadd 448(%rdi,%rdx), %tmm7
  tilezero %tmm7
  tilestored %tmm7, 448(%rsi,%rdx)
  pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx
  sttilecfg (%rcx)
  tilerelease
  ret

# Products: (configuration rdi, a rsi, b rdx, c rcx), all 64 bytes a row; c is added to.
.macro product name instruction
function \name
  mov $64, %eax
  ldtilecfg (%rdi)
  tileloadd (%rsi,%rax), %tmm6
  tileloadd (%rdx,%rax), %tmm7
  tileloadd (%rcx,%rax), %tmm2
  \instruction %tmm7, %tmm6, %tmm2
  tilestored %tmm2, (%rcx,%rax)
  tilerelease
  ret
.endm
product tdpbssd tdpbssd
product tdpbsud tdpbsud
product tdpbusd tdpbusd
product tdpbuud tdpbuud
product tdpbf16ps tdpbf16ps

# Vectors: (sums rdi, first rsi, second rdx); the second from memory or from a register, high ones too.
.macro vectors name instruction
function \name\()_256
  vmovdqu (%rdi), %ymm1
  vmovdqu (%rsi), %ymm14
  {vex} \instruction (%rdx), %ymm14, %ymm1
  vmovdqu %ymm1, (%rdi)
  vzeroupper
  ret
function \name\()_128
  vmovdqu (%rdi), %ymm13
  vmovdqu (%rsi), %ymm2
  vmovdqu (%rdx), %ymm15
  {vex} \instruction %xmm15, %xmm2, %xmm13
  vmovdqu %ymm13, (%rdi)
  vzeroupper
  ret
.endm
vectors vpdpbusd vpdpbusd
vectors vpdpbusds vpdpbusds
vectors vpdpwssd vpdpwssd
vectors vpdpwssds vpdpwssds

# The same with another prefix is AVX-VNNI-INT8, which older assemblers do not know.
.macro bytes name prefix opcode
function \name\()_256
  vmovdqu (%rdi), %ymm1
  vmovdqu (%rsi), %ymm2
  vmovdqu (%rdx), %ymm3
  .byte 0xC4, 0xE2, 0x6C + \prefix, \opcode, 0xCB
  vmovdqu %ymm1, (%rdi)
  vzeroupper
  ret
.endm
bytes vpdpbuud 0 0x50
bytes vpdpbuuds 0 0x51
bytes vpdpbsud 2 0x50
bytes vpdpbsuds 2 0x51
bytes vpdpbssd 3 0x50
bytes vpdpbssds 3 0x51

.data
.balign 64
shape_of_moves:
  .byte 1
  .fill 15, 1, 0
  .fill 8, 2, 64
  .fill 16, 1, 0
  .fill 7, 1, 2
  .byte 1
  .fill 8, 1, 0
.section .note.GNU-stack,"",@progbits
