// The kernels of this instruction set. See tiles.h for how this is included.
inline constexpr CpuOps kOps = {Ops::kName,  Linear, Ops::Panels(1), RmsNorm,  Gated,
                                QuantizeRow, Rope,   Convert,        Attention};
