/** Campaign: a signed message about one item, which a server offers to all devices alike; each decides whether it fits its user. */

import { IntegrityError, RefusedError } from "../errors.js";
import { canonicalJson, Float, readCanonical, type Json } from "../records/canonical.js";
import { Fields } from "../records/fields.js";
import { verify } from "../records/signing.js";

const TAG = "palate/campaign/1";
/** Largest signed campaign that is read, in bytes. */
const MOST_BYTES = 2 ** 16;

export interface Campaign {
  readonly id: string;
  readonly title: string;
  readonly body: string;
  /** The item it is about: a device decides by it whether the campaign fits. */
  readonly item: string;
  readonly link: string;
  /** Seconds since 1970, after which no device takes it. */
  readonly expires: number;
  /** The campaign fits a user for whom the item is in this top share of the catalogue. */
  readonly reach: number;
}

/** The campaign, its signature verified by the pinned release key. */
export async function openCampaign(data: Uint8Array, publicKey: string, population: string, now: number): Promise<Campaign> {
  const signed = Fields.of("a campaign", readCanonical(data, MOST_BYTES), ["campaign", "signature"]);
  await verify(publicKey, TAG, canonicalJson(signed.get("campaign")), signed.text("signature"));
  const names = ["version", "id", "population", "title", "body", "item", "link", "expires", "reach"];
  const fields = Fields.of("a campaign", signed.get("campaign"), names);
  const number = (name: string, most: number): number => {
    const value: Json = fields.get(name);
    const found = value instanceof Float ? value.value : Number(value);
    if (!(found > 0 && found <= most)) throw new IntegrityError(`\`${name}\` of a campaign must be above 0 and at most ${most}`);
    return found;
  };
  fields.whole("version", 1, 1);
  if (fields.text("population") !== population) throw new RefusedError(`a campaign must be of the population '${population}', got '${fields.text("population").slice(0, 80)}'`);
  const campaign: Campaign = {
    id: fields.text("id", 1, 100), title: fields.text("title", 1, 200), body: fields.text("body", 0, 4000), item: fields.text("item", 1, 512),
    link: fields.text("link", 0, 2000), expires: number("expires", 1e11), reach: number("reach", 1),
  };
  if (now >= campaign.expires) throw new RefusedError(`a campaign must not be over, got one that ended at ${campaign.expires}`);
  return campaign;
}
