"""Log: what is charged and released is signed, hashed into one growing log, and cosigned by witnesses."""
