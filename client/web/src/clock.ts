/** Clock: units of time, in seconds, and when a clock says nothing. */

/** A day, in seconds. */
export const DAY = 86_400;
/** 2024-01-01, in seconds since 1970: a clock before this has not been set, and its time is ignored. */
export const SET_CLOCK = 1_704_067_200;
