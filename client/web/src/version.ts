/** Version: of this package, as `package.json` has it. Of tabs with several, the newest leads: see `leader.ts`. */

export const VERSION = "0.1.0";
