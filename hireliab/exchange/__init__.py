"""
Talks to a venue.

adapter                   ExchangeAdapter protocol, order values, typed reads
own_venue                 OwnVenue: an adapter for venues that only @verified_transaction trades at
connection_pool           ConnectionPool of any blocking client
nobitex_client            NobitexClient: one method per endpoint
enhanced_nobitex_adapter  the client behind pool, breakers and limits
transaction               Transaction, states, the transition table
journal                   Journal contract and its records
sqlite_journal            SQLiteJournal on core/_sqlite
evidence                  what reads prove
transaction_verification  TransactionVerificationPipeline
"""
