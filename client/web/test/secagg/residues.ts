import { residuesOf, type Residues } from "../../src/secagg/packing.js";

/** Residues of whole numbers that may be above 2^53. */
export function residues(values: (number | bigint)[], bits: number): Residues {
  if (bits <= 32) return residuesOf(Float64Array.from(values, Number), bits);
  return { bits, words: Uint32Array.from(values.flatMap((value) => [Number(BigInt(value) & 0xffffffffn), Number(BigInt(value) >> 32n)])) };
}

/** Residues as whole numbers. */
export const wholes = ({ bits, words: all }: Residues): bigint[] =>
  Array.from({ length: bits <= 32 ? all.length : all.length / 2 }, (_, at) => {
    const word = bits <= 32 ? BigInt(all[at]) : BigInt(all[2 * at]) | (BigInt(all[2 * at + 1]) << 32n);
    return word & (2n ** BigInt(bits) - 1n);
  });
